// The page: what its stream tells, put where it is read. Text comes from peers and environments, and only ever becomes text.

import { Curve } from "/curve.js";
import { bytes, clock, count, duration, figure, isNumber, many, NONE, percent, span } from "/format.js";
import { Frames } from "/frames.js";
import { Stream } from "/stream.js";
import { Rows, write } from "/table.js";

const $ = (id) => document.getElementById(id);
const POINTS = 60;
const EPISODES = 64;
const ROWS = [50, 100, 200, 500];
const LOSSES = 100;
const STATES = {
  connecting: "connecting", live: "live", reconnecting: "reconnecting", paused: "paused",
  refused: "refused: open the link again that remote-gym has printed",
};

const page = { admin: false, token: taken(), rows: ROWS[0], servers: [], rates: new Map(), losses: 0 };

/**
 * Take the token out of the address: it need not stay in the history. To look, a cookie stands for it, which other ports
 * of this host are sent as well; to change something, it is kept where no other port reads it.
 */
function taken() {
  let token = new URLSearchParams(location.search).get("token") ?? new URLSearchParams(location.hash.slice(1)).get("token");
  try {
    if (token === null) token = sessionStorage.getItem("token");
    else sessionStorage.setItem("token", token);
  } catch { /* a browser that keeps nothing: until the page is loaded again */ }
  if (location.search || location.hash.startsWith("#token=")) history.replaceState(null, "", location.pathname);
  return token ?? "";
}

// What changes something

async function change(path, body) {
  const answer = await fetch(path, {
    method: "POST", headers: { "x-remote-gym": page.token, "content-type": "application/json" }, body: JSON.stringify(body),
  });
  say(answer.ok ? "" : (await answer.text()).slice(0, 400));
}

function say(text) {
  write($("said"), text);
  $("said").hidden = !text;
}

function sure(title, text, yes, act) {
  write($("sure-title"), title);
  write($("sure-text"), text);
  write($("sure-yes"), yes);
  const dialog = $("sure");
  dialog.returnValue = "";
  dialog.addEventListener("close", () => dialog.returnValue === "yes" && act().catch((error) => say(String(error))), { once: true });
  dialog.showModal();
}

function button(text, act, kind = "quiet") {
  const made = document.createElement("button");
  made.type = "button";
  made.className = kind;
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}

// Tables

const number = (label, text, more = {}) => ({ label, number: true, text, ...more });
/** A number, and how it went. */
const curve = (label, name, length, text, options = {}) => number(label, text, { length, curve: options, of: (row) => row.curves?.[name] ?? [], kind: "spark-cell" });

const frames = new Frames();

const servers = new Rows($("servers-table").tBodies[0], [
  { text: (row) => row.label, note: (row) => (row.up ? `${row.draining ? "draining, " : ""}${row.version}` : row.error || "connecting"), draw: (cell, row) => {
    cell.node.dataset.state = row.up ? (row.draining ? "draining" : "up") : row.error ? "down" : "connecting";
  } },
  { label: "Hosts", text: (row) => row.entrypoint ?? NONE, title: (row) => row.entrypoint ?? "" },
  curve("Steps/s", "rate", POINTS, (row) => count(row.rate), { fromZero: true }),
  number("Sessions", (row) => count(row.sessions), { note: (row) => (row.up ? `of ${count(row.max_sessions)}` : "") }),
  number("Envs", (row) => count(row.envs), { note: (row) => (row.up ? `of ${count(row.max_envs)}` : "") }),
  number("Loop lag", (row) => duration(row.lag)),
  number("CPU", (row) => percent(row.cpu)),
  number("Memory", (row) => bytes(row.memory), { note: (row) => (row.workers_memory ? `+ ${bytes(row.workers_memory)}` : "") }),
  number("In / out", (row) => (row.up ? `${bytes(row.received)}/s` : NONE), { note: (row) => (row.up ? `${bytes(row.sent)}/s` : "") }),
  number("Up", (row) => span(row.uptime)),
  { kind: "act", make: (cell, row) => {
    cell.button = button("Drain", () => sure(`Drain ${row.label}?`, "It takes no new sessions, delivers what runs, and ends.", "Drain", () => change("/drain", { server: Number(row.key) })), "danger");
    cell.button.setAttribute("aria-label", `Drain ${row.label}`);
    cell.node.append(cell.button);
  }, draw: (cell, row) => { cell.button.hidden = !(page.admin && row.admin && row.up && !row.draining); } },
]);

const sessions = new Rows($("sessions-table").tBodies[0], [
  { text: (row) => row.id.slice(0, 8), note: (row) => (page.servers.length > 1 ? row.server : ""), title: (row) => row.id, kind: "id" },
  { label: "Who", text: (row) => row.principal, note: (row) => row.peer, title: (row) => `${row.principal}, ${row.peer}`, kind: "who-cell" },
  number("Envs", (row) => count(row.envs)),
  { label: "State", kind: "state-cell", text: (row) => row.state, note: (row) => (isNumber(row.kept) ? `kept ${span(row.kept)}` : `lease ${span(row.lease)}`), draw: (cell, row) => { cell.node.dataset.state = row.state; } },
  curve("Steps/s", "rate", POINTS, (row) => count(row.rate), { fromZero: true }),
  number("Episodes", (row) => count(row.episodes), { note: (row) => (row.lost ? `${count(row.lost)} lost` : "") }),
  curve("Return", "return", EPISODES, (row) => figure(row.mean_return)),
  curve("Length", "length", EPISODES, (row) => figure(row.mean_length)),
  number("Age", (row) => span(row.age)),
  { kind: "act", make: (cell, row) => {
    const short = row.id.slice(0, 8);
    cell.show = button("Show", () => frames.only(row.key));
    cell.show.setAttribute("aria-label", `Show environments of session ${short}`);
    cell.end = button("End", () => sure(`End session ${short}?`, `${row.principal} loses ${many(row.envs, "environment")}, and is told that the server's owner has done it.`, "End it", () => change("/end", { server: Number(row.key.split(".")[0]), session: row.id })), "danger");
    cell.end.setAttribute("aria-label", `End session ${short}`);
    cell.node.append(cell.show, cell.end);
  }, draw: (cell, row) => {
    const server = page.servers[Number(row.key.split(".")[0])];
    cell.show.hidden = !server?.frames;
    cell.end.hidden = !(page.admin && server?.admin);
  } },
]);

const workers = new Rows($("workers-table").tBodies[0], [
  { text: (row) => `worker ${row.index}` },
  { label: "Server", text: (row) => row.server, kind: "fleet" },
  { label: "Process", text: (row) => String(row.process) },
  { label: "Whose", text: (row) => row.principal || NONE },
  number("Envs", (row) => count(row.envs)),
  { label: "Busy", kind: "busy-cell", make: (cell) => {
    cell.meter = document.createElement("span");
    cell.meter.className = "meter";
    cell.bar = document.createElement("span");
    cell.meter.append(cell.bar);
    cell.said = document.createElement("span");
    cell.node.append(cell.meter, cell.said);
  }, draw: (cell, row) => {
    write(cell.said, percent(row.busy));
    cell.bar.style.inlineSize = `${Math.round((row.busy ?? 0) * 100)}%`;
  } },
  number("Steps/s", (row) => count(row.rate)),
  number("Step p50", (row) => duration(row.step[0])),
  number("p90", (row) => duration(row.step[1])),
  number("p99", (row) => duration(row.step[2])),
  number("Restarts", (row) => count(row.restarts), { draw: (cell, row) => cell.node.classList.toggle("warned", row.restarts > 0) }),
]);

function lost(loss) {
  const item = document.createElement("li");
  const line = document.createElement("p");
  const when = document.createElement("time");
  when.textContent = clock(loss.time);
  const reason = document.createElement("b");
  reason.textContent = loss.reason;
  const whose = loss.sessions.length ? `, sessions ${loss.sessions.map((one) => one.slice(0, 8)).join(", ")}` : "";
  const where = page.servers.length > 1 ? ` of ${loss.server}` : "";
  line.append(when, ` worker ${loss.worker}${where} (process ${loss.process}): `, reason, whose);
  item.append(line);
  if (loss.output) {
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    const output = document.createElement("pre");
    summary.textContent = "Last lines";
    output.textContent = loss.output;
    output.tabIndex = 0;
    details.append(summary, output);
    item.append(details);
  }
  return item;
}

// What there is to see

const total = new Curve(document.querySelector("[data-curve=rate]"), POINTS, { width: 240, height: 44, fromZero: true });
const figureOf = (name, text) => write(document.querySelector(`[data-figure=${name}]`), text);
const note = (name, text) => write(document.querySelector(`[data-note=${name}]`), text);
const sum = (rows, name) => rows.reduce((so, row) => so + (row[name] ?? 0), 0);

function summary(told) {
  const up = told.servers.filter((one) => one.up);
  figureOf("rate", up.some((one) => isNumber(one.rate)) ? count(sum(up, "rate")) : NONE);
  figureOf("episodes", up.some((one) => isNumber(one.episode_rate)) ? count(sum(up, "episode_rate") * 60) : NONE);
  note("episodes", `${count(sum(up, "episodes"))} in all`);
  figureOf("sessions", count(sum(up, "sessions")));
  note("sessions", up.length ? `of ${count(sum(up, "max_sessions"))}` : "");
  figureOf("envs", count(sum(up, "envs")));
  note("envs", up.length ? `of ${count(sum(up, "max_envs"))}` : "");
  figureOf("busy", percent(told.workers.busy));
  note("busy", many(told.workers.total, "worker"));
  figureOf("restarts", count(sum(up, "restarts")));
  note("restarts", sum(up, "refusals") ? `${count(sum(up, "refusals"))} refused` : "none refused");
  document.querySelector("[data-figure=restarts]").classList.toggle("warned", sum(up, "restarts") > 0);
  const live = new Set(told.servers.map((one) => one.key));
  for (const one of told.servers) {
    const kept = one.up ? [...(page.rates.get(one.key) ?? []), ...one.curves.rate].slice(-POINTS) : [];
    page.rates.set(one.key, kept);
  }
  for (const key of page.rates.keys()) if (!live.has(key)) page.rates.delete(key);
  const longest = Math.max(0, ...[...page.rates.values()].map((one) => one.length));
  total.values = Array.from({ length: longest }, (_, index) => {
    const there = [...page.rates.values()].map((one) => one[one.length - longest + index]).filter(isNumber);
    return there.length ? there.reduce((so, one) => so + one, 0) : null;
  });
  total.draw();
  const names = [...new Set(up.map((one) => (one.operator ? "operator" : one.principal)))];
  write($("who"), names.length ? (names.includes("operator") ? "everybody's sessions" : `sessions of ${names.join(", ")}`) : "");
  document.title = up.length ? `${count(sum(up, "rate"))} steps/s · remote-gym` : "remote-gym";
}

function see(told) {
  page.servers = told.servers;
  document.body.classList.toggle("single", told.servers.length < 2);
  summary(told);
  servers.show(told.servers);
  write($("servers-count"), told.servers.length > 1 ? `${told.servers.filter((one) => one.up).length} of ${told.servers.length} reached` : "");
  sessions.show(told.sessions.rows);
  const found = told.sessions.found;
  const shown = told.sessions.rows.length;
  write($("sessions-count"), found === told.sessions.total ? (found ? many(found, "session") : "none yet") : `${found.toLocaleString("en")} of ${many(told.sessions.total, "session")}`);
  const more = $("sessions-more");
  more.hidden = shown >= found;
  const next = ROWS.find((rows) => rows > page.rows);
  more.disabled = next === undefined;
  write(more, `${(found - shown).toLocaleString("en")} more${next === undefined ? ": find what you look for" : ", show some"}`);
  workers.show(told.workers.rows);
  const left = told.workers.total - told.workers.rows.length;
  write($("workers-count"), left > 0 ? `${told.workers.rows.length} of ${many(told.workers.total, "worker")}` : "");
  if (told.losses.length) {
    page.losses += told.losses.length;
    $("losses-list").prepend(...told.losses.map(lost).reverse());
    while ($("losses-list").children.length > LOSSES) $("losses-list").lastElementChild.remove();
    write($("losses-count"), many(page.losses, "worker"));
  }
  frames.see(told.servers, told.sessions.rows);
}

const stream = new Stream({
  about: (about) => {
    page.admin = about.admin;
    page.losses = 0; // a new stream tells all of it again
    page.rates.clear();
    $("losses-list").replaceChildren();
    write($("losses-count"), "none");
    servers.show([]);
    sessions.show([]);
  },
  view: see,
}, (state) => {
  if ($("state").dataset.state === state) return;
  $("state").dataset.state = state;
  write($("state"), STATES[state]);
});

function look() {
  const query = new URLSearchParams({ sort: $("sessions-sort").value, find: $("sessions-find").value.trim(), rows: String(page.rows) });
  stream.to(`/views?${query}`);
}

let typing = 0;
$("sessions-form").addEventListener("submit", (event) => event.preventDefault());
$("sessions-sort").addEventListener("change", look);
$("sessions-find").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(look, 250);
});
$("sessions-more").addEventListener("click", () => {
  page.rows = ROWS.find((rows) => rows > page.rows) ?? page.rows;
  look();
});
look();
