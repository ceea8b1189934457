// Rejected rows: the files, their rows with reasons, and the two actions.

import { element, table } from "./dom.js";
import { count, counted, moment } from "./text.js";

let opened = null;
let said = "";

async function asked(path, options) {
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? `the server answered ${response.status}`);
  return answer;
}

export function rejectedView() {
  let isBusy = false;
  return { title: "Rejected rows", render: async () => {
    if (isBusy) return null;
    const { csrf, files } = await asked("/api/rejected");
    const rows = opened ? await asked(`/api/rejected/rows?file=${encodeURIComponent(opened)}`).catch(() => null) : null;

    async function act(verb, file, button) {
      if (verb === "drop" && !window.confirm(`Delete ${counted(file.rows, "rejected row")} for good?`)) return;
      isBusy = button.disabled = true;
      try {
        const done = await asked(`/api/rejected/${verb}?file=${encodeURIComponent(file.file)}`,
          { method: "POST", headers: { "X-CSRF-Token": csrf } });
        said = `${counted(done.rows, "row")} ${verb === "drop" ? "deleted" : "put again"}.`;
      } catch (error) {
        said = error.message;
      }
      isBusy = false;
      window.dispatchEvent(new Event("api2db-change"));
    }

    const columns = [{ title: "Put at" }, { title: "Collector", kind: "name" }, { title: "Target" }, { title: "Rows", number: true },
      { title: "Reason", kind: "value" }, { title: "Actions" }];
    const lines = files.map((file, at) => [moment(file.at), file.collector, file.stream_type, count(file.rows),
      file.reasons > 1 ? `${file.reason} (and ${count(file.reasons - 1)} other)` : file.reason,
      element("span", { class: "actions" },
        element("button", { id: `show-${at}`, onclick: () => {
          opened = opened === file.file ? null : file.file;
          window.dispatchEvent(new Event("api2db-change"));
        }, "aria-expanded": opened === file.file ? "true" : "false" }, "Rows"),
        element("button", { id: `retry-${at}`, onclick: (event) => act("retry", file, event.target) }, "Retry"),
        element("button", { id: `drop-${at}`, class: "danger", onclick: (event) => act("drop", file, event.target) }, "Drop"))]);
    const parts = [element("h2", {}, "Rejected rows"), element("p", { role: "status" }, said),
      table("Rejected rows", columns, lines, "There are no rejected rows.", { cards: true })];
    if (rows && rows.rows.length) {
      const names = Object.keys(rows.rows[0]);
      parts.push(element("h3", {}, rows.file), table("Rows of the file", names.map((title) => ({ title, kind: "value" })),
        rows.rows.map((row) => names.map((name) => row[name] ?? element("td", { class: "none" }, "null"))), ""));
    }
    return parts;
  } };
}
