// Curves and the time line of polls, drawn as SVG in a box of 100 × 100 that stretches.

import { element, svg } from "./dom.js";
import { age, count, duration, rate } from "./text.js";

function path(values, top) {
  const step = 100 / Math.max(1, values.length - 1);
  return values.map((value, at) => `${at ? "L" : "M"}${(at * step).toFixed(2)} ${(98 - (94 * value) / top).toFixed(2)}`).join("");
}

function drawn(values, attributes, title) {
  const top = Math.max(...values, 1e-9);
  const line = path(values, top);
  return svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": title, ...attributes },
    svg("title", {}, title), svg("path", { class: "area", d: `${line}L100 100L0 100Z` }), svg("path", { class: "curve", d: line }));
}

export const spark = (values) =>
  drawn(values.length ? values : [0], { class: "spark" },
    `rows per second, last 15 minutes: now ${rate(values.at(-1))}, at most ${rate(Math.max(...values, 0))}`);

export function curve(points, field, what, span) {
  const values = points.map((point) => point[field]);
  const shown = field === "lag_s" ? duration : field === "rate" ? rate : count;
  const said = `now ${shown(values.at(-1) ?? 0)}, at most ${shown(Math.max(...values, 0))}`;
  return captioned(drawn(values.length ? values : [0], { class: "chart" }, `${what}, last ${span}: ${said}`),
    `${span} ago`, said, "now");
}

const captioned = (chart, begin, said, end) => element("figure", {}, chart,
  element("figcaption", {}, [begin, said, end].map((text) => element("span", {}, text))));

export function polls(records) {
  const first = records[0].at, last = Math.max(Date.now() / 1000, records.at(-1).at + records.at(-1).seconds);
  const across = (at) => (100 * (at - first)) / Math.max(1, last - first);
  const most = Math.max(...records.map((poll) => poll.rows), 1);
  const bars = records.map((poll) => {
    const kind = poll.error ? "failed" : poll.late ? "late" : "ok";
    const height = poll.error ? 96 : 6 + (90 * poll.rows) / most;
    const bar = svg("rect", { class: kind, x: across(poll.at), y: 98 - height, height,
      width: Math.max(0.4, across(poll.at + poll.seconds) - across(poll.at)) });
    bar.append(svg("title", {}, `${age(poll.at)} ago: ${count(poll.rows)} rows in ${duration(poll.seconds)}`
      + (poll.error ? `, failed: ${poll.error}` : poll.late ? `, ${poll.late} ticks missed` : "")));
    return bar;
  });
  const failed = records.filter((poll) => poll.error).length;
  const late = records.filter((poll) => poll.late && !poll.error).length;
  const title = `${records.length} polls since ${age(first)} ago: ${failed} failed, ${late} late; a bar is as high as its rows`;
  const chart = svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", class: "chart", role: "img",
    "aria-label": title }, svg("title", {}, title), ...bars);
  const legend = element("p", { class: "legend" }, [["ok", records.length - failed - late], ["late", late], ["failed", failed]]
    .map(([kind, number]) => element("span", { class: kind }, `${count(number)} ${kind}`)),
    element("span", {}, `a bar is as high as the rows of its poll, at most ${count(most)}`));
  return element("div", {}, captioned(chart, `${age(first)} ago`, "", "now"), legend);
}
