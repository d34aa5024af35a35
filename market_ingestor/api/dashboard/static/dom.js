// Builds and finds elements; text is always set as text, never as markup.

/** Return a new element. `on...` properties are listeners, `data` and `aria` are objects of attributes. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "data") Object.assign(made.dataset, value);
    else if (key === "aria") for (const [word, text] of Object.entries(value)) made.setAttribute(`aria-${word}`, text);
    else if (key === "text") made.textContent = value;
    else if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

/** Set an element's text, touching the document only when it changes. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Return a table with a caption for screen readers, in a box that scrolls sideways. */
export function table(caption, headings, rows) {
  return element("div", { className: "scroll", tabIndex: 0, role: "region", aria: { label: caption } },
    element("table", {},
      element("caption", { className: "hidden", text: caption }),
      element("thead", {}, element("tr", {}, ...headings.map((text) => element("th", { scope: "col", text })))),
      element("tbody", {}, ...rows)));
}

/** Return a row; cells are text, nodes, or [text, class]. */
export function row(cells, className = "") {
  return element("tr", { className }, ...cells.map((cell) => {
    if (cell instanceof Node) return element("td", {}, cell);
    const [text, kind] = Array.isArray(cell) ? cell : [cell, ""];
    return element("td", { text: text ?? "–", className: kind });
  }));
}

/** Return a group of choices that look like buttons and behave like radio buttons or check boxes. */
export function segment(legend, type, name, choices, onchange) {
  return element("fieldset", { className: "segment" },
    element("legend", { className: "hidden", text: legend }),
    ...choices.map(({ value, text, checked = false, title = "", swatch }) => element("label", { title },
      element("input", { type, name, value, checked, onchange }),
      ...(swatch ? [element("i", { data: { swatch } })] : []), text)));
}
