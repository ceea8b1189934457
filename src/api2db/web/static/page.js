// The page: follows the server's events, and shows the view that the address names.

import { collectorView } from "./collector.js";
import { element, morph } from "./dom.js";
import { overview } from "./overview.js";
import { rejectedView } from "./rejected.js";

const main = document.getElementById("main");
const connection = document.getElementById("connection");
let project = null;
let view = null;

function route() {
  const [, kind, name] = location.hash.split("/");
  if (kind === "collector" && name) return collectorView(decodeURIComponent(name));
  if (kind === "rejected") return rejectedView();
  return overview();
}

async function show() {
  if (!view || !project) return;
  const shown = view;
  try {
    const content = await shown.render(project);
    if (shown !== view || content === null) return;
    morph(main, content);
  } catch (error) {
    main.replaceChildren(element("p", { class: "bad", role: "alert" }, `This view can't be shown: ${error.message}`));
  }
}

function changeView() {
  view = route();
  document.title = `${view.title} – api2db`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === (location.hash || "#/")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.replaceChildren(element("p", {}, "Loading…"));
  show();
}

let events = null;

function follow() {
  if (events || document.hidden) return;
  events = new EventSource("/events");
  events.onopen = () => {
    connection.textContent = "live";
    connection.className = "";
  };
  events.onmessage = (event) => {
    project = JSON.parse(event.data);
    document.getElementById("project").textContent = project.project;
    show();
  };
  events.onerror = () => {
    connection.textContent = "not connected: these are the last figures; trying again";
    connection.className = "lost";
    if (events.readyState === EventSource.CLOSED) {
      leave();
      setTimeout(follow, 3000);
    }
  };
}

function leave() {
  if (events) events.close();
  events = null;
}

// A hidden page costs nothing, and leaves a browser's few connections to the server to the pages that are seen.
document.addEventListener("visibilitychange", () => (document.hidden ? leave() : follow()));

window.addEventListener("api2db-change", show);
window.addEventListener("hashchange", () => {
  changeView();
  main.focus();
});
changeView();
follow();
setInterval(show, 5000); // ages grow although no figure changes
