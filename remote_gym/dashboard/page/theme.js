// Before the page is drawn: light, dark, or what the system says; kept in this browser.

(() => {
  const names = ["system", "light", "dark"];
  const root = document.documentElement;
  let theme = "system";
  try {
    theme = localStorage.getItem("theme") ?? "system";
  } catch { /* a browser that keeps nothing */ }
  const show = () => {
    root.dataset.theme = names.includes(theme) ? theme : "system";
    const button = document.getElementById("theme");
    if (button) button.textContent = `Theme: ${root.dataset.theme}`;
  };
  show();
  document.addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme")?.addEventListener("click", () => {
      theme = names[(names.indexOf(root.dataset.theme) + 1) % names.length];
      try {
        localStorage.setItem("theme", theme);
      } catch { /* likewise */ }
      show();
    });
  });
})();
