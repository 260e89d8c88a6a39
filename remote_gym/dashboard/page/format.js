// Numbers as people read them. Whatever is not a number is a dash.

export const NONE = "–";

export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** 1234567 -> "1.23 M"; three digits that count. */
export function count(value) {
  if (!isNumber(value)) return NONE;
  const size = Math.abs(value);
  if (size < 1000) return Number.isInteger(value) ? String(value) : figure(value);
  if (size < 10000) return Math.round(value).toLocaleString("en");
  for (const [unit, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (size >= unit) return `${(value / unit).toPrecision(3)} ${name}`;
  }
  return NONE;
}

/** A number with as many decimals as it needs for three digits. */
export function figure(value) {
  if (!isNumber(value)) return NONE;
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e5 || size < 1e-3) return value.toExponential(1);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

export function bytes(value) {
  if (!isNumber(value)) return NONE;
  for (const [unit, name] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (value >= unit) return `${(value / unit).toPrecision(3)} ${name}`;
  }
  return `${Math.round(value)} B`;
}

/** Seconds of a machine: 0.000123 -> "123 µs". */
export function duration(seconds) {
  if (!isNumber(seconds)) return NONE;
  if (seconds >= 1) return `${figure(seconds)} s`;
  if (seconds >= 1e-3) return `${figure(seconds * 1e3)} ms`;
  return `${Math.round(seconds * 1e6)} µs`;
}

/** Seconds of people, in the two largest units: 3725 -> "1h02m". */
export function span(seconds) {
  if (!isNumber(seconds)) return NONE;
  const whole = Math.max(0, Math.floor(seconds));
  const two = (value) => String(value).padStart(2, "0");
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days}d${two(hours)}h`;
  if (hours) return `${hours}h${two(minutes)}m`;
  return minutes ? `${minutes}m${two(whole % 60)}s` : `${whole}s`;
}

export function percent(share) {
  return isNumber(share) ? `${Math.round(share * 100)} %` : NONE;
}

export function clock(seconds) {
  return isNumber(seconds) ? new Date(seconds * 1000).toLocaleTimeString("en-GB") : NONE;
}

export function many(number, what) {
  return `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
}
