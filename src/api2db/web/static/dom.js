// Builds elements. Every text becomes a text node: rows, names and errors are foreign data.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made[key] = value;
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}

// A table of cards has a card for each row on a narrow screen, with the titles of its columns.
export function table(caption, columns, rows, empty, { cards = false } = {}) {
  if (!rows.length) return element("p", { class: "soft" }, empty);
  const head = columns.map(({ title, number }) => element("th", { scope: "col", role: "columnheader", class: number && "number" }, title));
  const body = rows.map((cells) =>
    element("tr", { role: "row" }, cells.map((cell, at) => {
      if (cell instanceof HTMLTableCellElement) return cell;
      const attributes = { class: columns[at].number ? "number" : columns[at].kind, role: "cell", "data-title": columns[at].title };
      return element("td", attributes, ...[cell ?? ""].flat());
    })));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    element("table", { class: cards && "cards", role: "table", "aria-label": caption },
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, head)),
      element("tbody", { role: "rowgroup" }, body)));
}

export function figures(pairs) {
  return element("dl", { class: "figures" },
    pairs.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
}

// Makes a parent's children like others, and keeps those that are alike: a click, a focus or a selection survives.
export function morph(parent, children) {
  children.forEach((wanted, at) => {
    const present = parent.childNodes[at];
    if (!present) parent.append(wanted);
    else if (present.nodeName !== wanted.nodeName || present.id !== wanted.id) present.replaceWith(wanted);
    else if (present.nodeType === Node.TEXT_NODE) {
      if (present.data !== wanted.data) present.data = wanted.data;
    } else {
      for (const { name } of [...present.attributes]) if (!wanted.hasAttribute(name)) present.removeAttribute(name);
      for (const { name, value } of wanted.attributes) if (present.getAttribute(name) !== value) present.setAttribute(name, value);
      for (const handler of ["onclick", "oninput"]) present[handler] = wanted[handler];
      if (!wanted.disabled) present.disabled = false;
      morph(present, [...wanted.childNodes]);
    }
  });
  while (parent.childNodes.length > children.length) parent.lastChild.remove();
}
