// One collector: its flow, its polls, and each of its streams.

import { curve, polls } from "./charts.js";
import { element, figures, table } from "./dom.js";
import { lastError, streamState, troubleList } from "./overview.js";
import { age, ago, bytes, count, duration, moment, rate } from "./text.js";

export function collectorView(name) {
  return { title: name, render: async () => {
    const response = await fetch(`/api/collectors/${encodeURIComponent(name)}`);
    if (response.status === 404) return [element("p", {}, `There is no collector ${name}.`)];
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    return content(await response.json());
  } };
}

function content(collector) {
  return [
    element("h2", {}, `Collector ${collector.name}`), troubleList(collector.troubles), flow(collector),
    figures([["State", collector.state], ["Interval", collector.interval_s ? duration(collector.interval_s) : "–"], ["Polls", count(collector.polls)],
      ["Failed", count(collector.failed)], ["Missed ticks", count(collector.late)], ["Last poll", ago(collector.polled_at)],
      ["Rows", count(collector.rows)], ["API calls", count(collector.calls)], ["Not modified", count(collector.not_modified)],
      ["Waited for limits", duration(collector.waited_s)]]),
    element("h3", {}, "Polls"),
    collector.recent_polls.length ? polls(collector.recent_polls) : element("p", { class: "soft" }, "No poll has ended yet."),
    ...collector.streams.flatMap((stream) => streamParts(collector, stream)),
  ];
}

function flow(collector) {
  const waiting = Math.max(0, ...collector.streams.map((stream) => stream.waiting));
  const part = (stuck, title, ...lines) => element("div", { class: stuck ? "part stuck" : "part" },
    element("strong", {}, title), stuck ? element("div", { class: "bad" }, "stuck here") : null, lines.filter(Boolean).map((line) => element("div", {}, line)));
  const arrow = () => element("span", { class: "arrow", "aria-hidden": "true" }, "→");
  const isStuck = ["late", "failing"].includes(collector.state);
  const isDead = (stream) => collector.running && !stream.running;
  const targets = collector.streams.map((stream) => part(
    Boolean(stream.last_error) || stream.parked > 0 || isDead(stream), stream.identity,
    `${rate(stream.rate)} rows/s, ${count(stream.delivered)} delivered`,
    stream.waiting ? `${count(stream.waiting)} waiting, lag ${age(stream.oldest_at)}` : "nothing waits",
    streamState(collector, stream), lastError(stream)));
  return element("section", { class: "flow", "aria-label": "Flow from the API to the targets" },
    part(isStuck, `${collector.name} (API)`, `${count(collector.rows)} rows in ${count(collector.polls)} polls`,
      `last poll ${ago(collector.polled_at)}`), arrow(),
    part(false, "Journal", `${count(waiting)} rows wait`,
      bytes(Math.max(0, ...collector.streams.map((stream) => stream.waiting_bytes)))), arrow(),
    element("div", { class: "targets" }, targets));
}

function streamParts(collector, stream) {
  const columns = Object.entries(stream.columns), names = [...new Set(stream.rows.flatMap((row) => Object.keys(row)))];
  return [
    element("h2", {}, stream.identity),
    figures([["Delivered", count(stream.delivered)], ["Waiting", `${count(stream.waiting)} (${bytes(stream.waiting_bytes)})`],
      ["Last row visible", ago(stream.visible_at)], ["Put to visible, p50", duration(stream.latency.p50_s)],
      ["Put to visible, p99", duration(stream.latency.p99_s)], ["Rejected", count(stream.rejected)],
      ["Parked", count(stream.parked)]]),
    element("h3", {}, "Rows per second, last 15 minutes"), curve(stream.minutes, "rate", "Rows per second", "15 minutes"),
    element("h3", {}, "Rows per second, last 24 hours"), curve(stream.hours, "rate", "Rows per second", "24 hours"),
    element("h3", {}, "Rows that wait, last 24 hours"), curve(stream.hours, "waiting", "Rows that wait", "24 hours"),
    element("h3", {}, "Newest rows, as they were put"),
    table(`Newest rows of ${stream.identity}`, names.map((title) => ({ title, kind: "value" })),
      stream.rows.map((row) => names.map((name) => row[name] ?? element("td", { class: "none" }, "null"))),
      "Nothing was delivered since this was recorded."),
    element("h3", {}, "Columns"),
    table(`Columns of ${stream.identity}`, [{ title: "Column", kind: "name" }, { title: "Type" }], columns, "Not known yet."),
    element("h3", {}, "Changes of the schema"),
    table(`Changes of the schema of ${stream.identity}`,
      [{ title: "When" }, { title: "Column", kind: "name" }, { title: "Before" }, { title: "After" }],
      stream.changes.map((change) => [moment(change.at), change.column, change.before ?? "new", change.after ?? "gone"]).reverse(),
      "None was seen."),
  ];
}
