// What everybody must see at once: a lost connection, an API that does not answer, a missing library.

import { byId, element } from "./dom.js";

const place = byId("notices");
const shown = new Map();

/** Show a notice under a key, or change it. */
export function notify(key, text, { isBad = false, action = null } = {}) {
  let notice = shown.get(key);
  if (notice === undefined) {
    notice = element("div", { className: "notice", data: { notice: key } }, element("span"));
    shown.set(key, notice);
    place.append(notice);
    if (action !== null) {
      notice.append(element("button", { type: "button", className: "quiet", text: action.text, onclick: action.run }));
    }
  }
  notice.classList.toggle("bad", isBad);
  if (notice.firstChild.textContent !== text) notice.firstChild.textContent = text;
}

/** Take a notice away. */
export function withdraw(key) {
  shown.get(key)?.remove();
  shown.delete(key);
}
