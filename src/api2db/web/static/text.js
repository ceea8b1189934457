// Figures as text.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (value) => (value === null || value === undefined ? "–" : WHOLE.format(value));

export const counted = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

export function rate(value) {
  if (!value) return "0";
  return value < 10 ? value.toFixed(1) : WHOLE.format(value);
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (value >= 1000 && at < units.length - 1) [value, at] = [value / 1000, at + 1];
  return `${at && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.001) return "< 1 ms";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 90) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

export const age = (at) => (at ? duration(Math.max(0, Date.now() / 1000 - at)) : "–");
export const ago = (at) => (at ? `${age(at)} ago` : "never");
export const moment = (at) => (at ? new Date(at * 1000).toLocaleString() : "–");

export function until(at) {
  if (!at) return "–";
  const seconds = at - Date.now() / 1000;
  return seconds > 0 ? `in ${duration(seconds)}` : "due";
}
