// Elements made of plain calls: no markup is parsed, so names from files stay text.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: attributes, `on...` listeners, properties that are no text, then children. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) set(element, key, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function set(element, key, value) {
  if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
  else if (key in element && typeof value !== "string") element[key] = value;
  else if (value !== null) element.setAttribute(key, value);
}

/** Make an element of SVG. */
export function svg(tag, props = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(props)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const ICONS = {
  in: "M8 3v10M3 8h10", out: "M3 8h10", fit: "M3 6V3h3M10 3h3v3M13 10v3h-3M6 13H3v-3", profile: "M2 12l4-6 3 4 5-7",
  save: "M8 2v8M5 7l3 3 3-3M3 13h10", link: "M7 9a2.5 2.5 0 0 0 3.5 0l2.5-2.5A2.5 2.5 0 0 0 9.5 3L8.5 4M9 7a2.5 2.5 0 0 0-3.5 0L3 9.5A2.5 2.5 0 0 0 6.5 13l1-1",
  full: "M3 6V3h3M10 3h3v3M13 10v3h-3M6 13H3v-3M6 6L3 3M10 6l3-3M10 10l3 3M6 10l-3 3", panel: "M2.5 3.5h11v9h-11zM10 3.5v9", help: "M6 6a2 2 0 1 1 2.6 1.9c-.4.2-.6.5-.6 1V9.6M8 12v.2",
  play: "M5 3.5v9l7-4.5z", pause: "M5.5 3.5v9M10.5 3.5v9", back: "M10 3L5 8l5 5", next: "M6 3l5 5-5 5", more: "M4 6l4 4 4-4", close: "M4 4l8 8M12 4l-8 8",
};

/** Make a picture of an icon. */
export function icon(name) {
  return svg("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/** Make a button with an icon; what it does is said to all. */
export function iconButton(name, title, onclick, props = {}) {
  return h("button", { type: "button", class: "tool", title, "aria-label": title.replace(/ \(.*/, ""), onclick, ...props }, icon(name));
}

/** Write a value into a control unless somebody is typing there. */
export function put(control, value) {
  const text = String(value);
  if (control.value !== text && !(control.type === "number" && control.matches(":focus"))) control.value = text;
}
