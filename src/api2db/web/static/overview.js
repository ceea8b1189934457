// The first screen: what is wrong, then every collector and stream.

import { spark } from "./charts.js";
import { element, table } from "./dom.js";
import { age, ago, bytes, count, duration, rate, until } from "./text.js";

const FEW = 8;
const MOST_TROUBLES = 10;
let wanted = "";

export function overview() {
  return { title: "Overview", render: async (project) => content(project) };
}

export function troubleList(troubles) {
  if (!troubles.length) return element("p", { class: "well" }, "Nothing is wrong.");
  const more = troubles.length - MOST_TROUBLES;
  return element("ul", { class: "troubles" }, troubles.slice(0, MOST_TROUBLES).map((trouble) =>
    element("li", { class: trouble.severity },
      element("strong", {}, trouble.severity === "error" ? "Error: " : "Warning: "),
      element("a", { href: address(trouble.collector) }, trouble.collector),
      trouble.stream ? ` → ${trouble.stream}` : "", `: ${trouble.what}`,
      element("p", {}, `${trouble.since ? `Since ${age(trouble.since)}. ` : ""}Next step: ${trouble.next_step}.`))),
    more > 0 ? element("li", { class: "warning" }, `And ${count(more)} more; the tables below show them.`) : null);
}

export const address = (name) => `#/collector/${encodeURIComponent(name)}`;

function content(project) {
  const shown = project.collectors.filter((collector) =>
    [collector.name, ...collector.streams.map((stream) => stream.identity)].some((name) => name.includes(wanted)));
  const visible = Math.max(0, ...project.collectors.flatMap((each) => each.streams.map((stream) => stream.visible_at ?? 0)));
  const parts = [
    element("h2", {}, "Health"), troubleList(project.troubles),
    element("p", { class: "soft" }, visible ? `Last row visible ${ago(visible)}.` : "No row has become visible yet."),
    element("h2", {}, project.running ? "Collectors" : "Collectors (no run is active)"),
  ];
  if (project.collectors.length > FEW) parts.push(filter());
  parts.push(collectors(shown, project.troubles), element("h2", {}, "Streams"), streams(shown, project.troubles));
  if (project.stores.length) parts.push(element("h2", {}, "Stores"), stores(project.stores));
  return parts;
}

function filter() {
  return element("label", { class: "filter", for: "filter" }, "Show names with",
    element("input", { id: "filter", type: "search", value: wanted, oninput: (event) => {
      wanted = event.target.value;
      window.dispatchEvent(new Event("api2db-change"));
    } }));
}

function collectors(shown, troubles) {
  const columns = [{ title: "Collector", kind: "name" }, { title: "State" }, { title: "Polls", number: true },
    { title: "Failed", number: true }, { title: "Last poll", number: true }, { title: "Next poll", number: true },
    { title: "Rows", number: true }, { title: "API calls", number: true }, { title: "Last error", kind: "value long" }];
  const rows = shown.map((collector) => [
    element("a", { href: address(collector.name) }, collector.name),
    element("span", { class: `state ${collector.state}` }, collector.state),
    count(collector.polls), count(collector.failed), ago(collector.polled_at),
    collector.running && collector.polled_at ? until(collector.next_at) : "–",
    count(collector.rows), calls(collector),
    collector.last_error ? [element("div", { class: "clamped" }, firstLine(collector.last_error)), nextStep(troubles, collector.name, "")] : "",
  ]);
  return table("Collectors", columns, rows, "There are no collectors yet: start a run, then its collectors stand here.",
    { cards: true });
}

function calls(collector) {
  if (collector.calls === null) return "–";
  const more = [];
  if (collector.not_modified) more.push(`${count(collector.not_modified)} not modified`);
  if (collector.waited_s >= 1) more.push(`limited ${duration(collector.waited_s)}`);
  return `${count(collector.calls)}${more.length ? ` (${more.join(", ")})` : ""}`;
}

function streams(shown, troubles) {
  const columns = [{ title: "Stream", kind: "name" }, { title: "State" }, { title: "Rows/s, 15 min" }, { title: "Rows/s", number: true },
    { title: "Delivered", number: true }, { title: "Waiting", number: true }, { title: "Lag", number: true },
    { title: "Last row visible", number: true }, { title: "p50 / p99", number: true }, { title: "Rejected", number: true },
    { title: "Parked", number: true }, { title: "Last error", kind: "value long" }];
  const rows = shown.flatMap((collector) => collector.streams.map((stream) => [
    element("a", { href: address(collector.name) }, `${collector.name} → ${stream.identity}`),
    streamState(collector, stream), spark(stream.curve), rate(stream.rate), count(stream.delivered),
    stream.waiting ? `${count(stream.waiting)} (${bytes(stream.waiting_bytes)})` : "0",
    stream.oldest_at ? age(stream.oldest_at) : "0 s", ago(stream.visible_at),
    stream.p50_s === null ? "–" : `${duration(stream.p50_s)} / ${duration(stream.p99_s)}`,
    count(stream.rejected), count(stream.parked),
    isWell(collector, stream) ? "" : [lastError(stream), nextStep(troubles, collector.name, stream.identity)],
  ]));
  return table("Streams", columns, rows, "There are no streams yet.", { cards: true });
}

function nextStep(troubles, collector, stream) {
  const found = troubles.find((trouble) => trouble.collector === collector && trouble.stream === stream);
  return found ? element("div", { class: "soft" }, `Next step: ${found.next_step}.`) : null;
}

const isWell = (collector, stream) => !stream.last_error && (stream.running || !collector.running);

export function streamState(collector, stream) {
  if (collector.running && !stream.running) return element("span", { class: "state failing" }, "not running");
  if (stream.last_error) return element("span", { class: "state failing" }, "failing");
  return element("span", { class: stream.running ? "state ok" : "state stopped" }, stream.running ? "running" : "stopped");
}

export const lastError = (stream) => stream.last_error
  ? element("div", { class: "bad clamped", title: stream.last_error }, firstLine(stream.last_error)) : null;

function stores(found) {
  const columns = [{ title: "Store", kind: "name" }, { title: "Shards", number: true }, { title: "Rows", number: true },
    { title: "Last round", number: true }, { title: "Rejected", number: true }, { title: "Last error", kind: "value" }];
  return table("Stores", columns, found.map((store) => [`${store.collector} → ${store.store}`, count(store.shards),
    count(store.rows), ago(store.stored_at), count(store.rejected), store.last_error ? firstLine(store.last_error) : ""]), "", { cards: true });
}

export const firstLine = (text) => text.trim().split("\n", 1)[0];
