// The controls beside the image: scenes, channels, labels. They show the state of a view and change it.

import { NAMED, PALETTES } from "./colors.js";
import { contrast } from "./contrast.js";
import { h, iconButton, put } from "./dom.js";
import { MOST_CHANNELS } from "./view.js";
import { number } from "./units.js";

const LONG = 12; // channels beyond these can be searched

/** Return {element, build(), sync(), values(list)} of a view. */
export function panel(view, say) {
  const element = h("aside", { class: "panel", "aria-label": "Display settings" });
  let parts = [];
  return {
    element,
    build() {
      parts = [choices(view, say), channels(view, say), labels(view)].filter(Boolean);
      element.replaceChildren(...parts.map((part) => part.element));
      this.sync();
    },
    sync: () => parts.forEach((part) => part.sync()),
    values: (list) => parts.forEach((part) => part.values?.(list)),
  };
}

function choices(view, say) {
  const { scenes } = view.image;
  const { images } = view.content;
  const choose = (name, list, at, go) =>
    list.length < 2 ? null : h("label", { class: "choice" }, name, h("select", { onchange: (e) => Promise.resolve(go(e.target.selectedIndex)).catch(say) }, list.map((each, k) => h("option", { selected: k === at }, each.name))));
  const made = [
    choose("Scene", scenes, view.state.scene, (k) => view.show(k)),
    choose("Variable", images, view.state.image, (k) => view.show(view.state.scene, k)),
  ].filter(Boolean);
  return made.length ? { element: h("section", {}, made), sync() {} } : null;
}

function channels(view, say) {
  const rows = view.groups.map((group) => row(view, group, say));
  const list = h("div", { class: "channels" }, rows.map((each) => each.element));
  const auto = h("button", { type: "button", class: "quiet", title: "Contrast of all shown channels by what is seen (a)", onclick: () => view.auto() }, "Auto contrast");
  const reset = h("button", { type: "button", class: "quiet", title: "Channels as they were when the image was opened", onclick: () => resetChannels(view) }, "Reset");
  const head = h("div", { class: "head" }, h("h2", {}, rows.length > 1 ? `Channels` : "Image"), auto, reset);
  return {
    element: h("section", {}, head, rows.length > LONG ? search(rows) : null, list),
    sync: () => rows.forEach((each) => each.sync()),
    values: (found) => rows.forEach((each) => each.value(found)),
  };
}

function search(rows) {
  const filter = (event) => {
    const words = event.target.value.toLowerCase();
    rows.forEach((each) => (each.element.hidden = !each.name.toLowerCase().includes(words)));
  };
  return h("input", { type: "search", class: "search", placeholder: `Find one of ${rows.length} channels`, "aria-label": "Find a channel", oninput: filter });
}

function resetChannels(view) {
  view.state.channels = structuredClone(view.defaults.channels);
  view.change();
}

/** One channel, or those of a colour picture: shown or not, contrast, and what is set more rarely. */
function row(view, { name, members }, say) {
  const [first] = members;
  const state = () => view.state.channels[first];
  const change = (what) => {
    for (const k of members) Object.assign(view.state.channels[k], what);
    view.change();
  };
  const toggle = (event) => {
    if (event.target.checked && view.active.length + members.length > MOST_CHANNELS) {
      event.target.checked = false;
      say(new Error(`at most ${MOST_CHANNELS} channels are shown together: hide one first`));
    } else change({ on: event.target.checked });
  };
  const shown = h("input", { type: "checkbox", onchange: toggle, "aria-label": `Show ${name}` });
  const output = h("output", { class: "value", "aria-label": `Value of ${name}` });
  const limits = contrast(name, (lo, hi) => change({ lo, hi }));
  const more = settings(view, name, members, state, change);
  const body = h("div", { class: "more", hidden: true }, more.element);
  const opener = iconButton("more", `Settings of ${name}`, () => {
    body.hidden = !body.hidden;
    opener.setAttribute("aria-expanded", String(!body.hidden));
  }, { "aria-expanded": "false" });
  const swatch = h("span", { class: "swatch" });
  const head = h("div", { class: "line" }, h("label", { class: "name" }, shown, swatch, h("span", { title: name }, name)), output, opener);
  return {
    name,
    element: h("div", { class: "channel", role: "group", "aria-label": name }, head, limits.element, body),
    value: (found) => {
      const own = found.filter((each) => members.includes(each.channel));
      output.textContent = own.map((each) => (each.value === null ? "–" : number(each.value))).join(" ");
      output.classList.toggle("rough", own.some((each) => each.level > 0));
    },
    sync() {
      const { on, lo, hi, color } = state();
      shown.checked = on;
      head.classList.toggle("off", !on);
      limits.element.hidden = !on || lo === null;
      const tint = members.length > 1 ? "#c8ccd4" : color in { inverted: 1 } ? "#c8ccd4" : PALETTES.includes(color) ? "#fd9a6a" : `#${color}`;
      swatch.dataset.palette = members.length > 1 ? "rgb" : PALETTES.includes(color) ? color : "";
      swatch.style.setProperty("--tint", tint);
      if (lo !== null) limits.sync({ lo, hi, range: rangeOf(view, members), color: tint, whole: !view.layer.dtype.startsWith("float") });
      more.sync();
    },
  };
}

/** Return the range of values of the sliders: what was seen, and the limits. */
function rangeOf(view, members) {
  if (view.layer.dtype === "uint8") return { lo: 0, hi: 255, sample: view.ranges[members[0]]?.sample };
  const known = members.map((k) => view.ranges[k]).filter(Boolean);
  const { lo, hi } = view.state.channels[members[0]];
  const usual = view.defaults.channels[members[0]];
  const low = Math.min(lo, usual.lo ?? lo, ...known.map((each) => each.lo));
  const high = Math.max(hi, usual.hi ?? hi, ...known.map((each) => each.hi));
  return { lo: low, hi: high > low ? high : low + 1, sample: known[0]?.sample };
}

function settings(view, name, members, state, change) {
  const field = (text, control) => h("label", { class: "field" }, h("span", {}, text), control);
  const limit = (key, text) => h("input", { type: "number", step: "any", "aria-label": `${text} of ${name} as a number`, onchange: (e) => setLimit(key, e.target) });
  const setLimit = (key, control) => {
    const value = Number(control.value);
    const { lo, hi } = { ...state(), [key]: value };
    if (control.value !== "" && Number.isFinite(value) && lo < hi) change({ lo, hi });
    else control.value = String(state()[key]);
  };
  const [low, high] = [limit("lo", "Lower limit"), limit("hi", "Upper limit")];
  const gamma = h("input", { type: "range", min: "-1", max: "1", step: "0.01", "aria-label": `Gamma of ${name}`, oninput: (e) => change({ gamma: Number((5 ** e.target.value).toPrecision(3)) }) });
  const gammaText = h("output", { class: "value" });
  const color = h("input", { type: "color", "aria-label": `Colour of ${name}`, oninput: (e) => change({ color: e.target.value.slice(1) }) });
  const options = [...Object.entries(NAMED), ...PALETTES.map((each) => [each, each])].map(([value, text]) => h("option", { value }, text));
  const palette = h("select", { "aria-label": `Named colour or palette of ${name}`, onchange: (e) => e.target.value && change({ color: e.target.value }) }, h("option", { value: "" }, "own colour"), options);
  const auto = h("button", { type: "button", class: "quiet", onclick: () => view.auto(members) }, "Auto");
  const tint = members.length > 1 ? null : field("Colour", h("span", { class: "pair" }, color, palette));
  return {
    element: h("div", {}, field("Limits", h("span", { class: "pair" }, low, high, auto)), field("Gamma", h("span", { class: "pair" }, gamma, gammaText)), tint),
    sync() {
      const now = state();
      if (now.lo !== null) {
        put(low, number(now.lo));
        put(high, number(now.hi));
      }
      put(gamma, (Math.log(now.gamma) / Math.log(5)).toFixed(2));
      gammaText.textContent = number(now.gamma, 3);
      if (!PALETTES.includes(now.color)) put(color, `#${now.color}`);
      palette.value = now.color in NAMED || PALETTES.includes(now.color) ? now.color : "";
    },
  };
}

function labels(view) {
  const rows = view.content.labels.map((layer, k) => labelRow(view, layer.name, k));
  if (!rows.length) return null;
  return {
    element: h("section", {}, h("div", { class: "head" }, h("h2", {}, "Labels")), rows.map((each) => each.element)),
    sync: () => rows.forEach((each) => each.sync()),
    values: (found) => rows.forEach((each) => each.value(found)),
  };
}

function labelRow(view, name, k) {
  const change = (what) => {
    Object.assign(view.state.labels[k], what);
    view.change();
  };
  const shown = h("input", { type: "checkbox", "aria-label": `Show ${name}`, onchange: (e) => change({ on: e.target.checked }) });
  const output = h("output", { class: "value", "aria-label": `Value of ${name}` });
  const opacity = h("input", { type: "range", min: "0", max: "1", step: "0.05", "aria-label": `Opacity of ${name}`, oninput: (e) => change({ opacity: Number(e.target.value) }) });
  const outline = h("input", { type: "checkbox", onchange: (e) => change({ outline: e.target.checked }) });
  const body = h("div", { class: "field" }, opacity, h("label", { class: "name" }, outline, "Outline"));
  return {
    element: h("div", { class: "channel", role: "group", "aria-label": name }, h("div", { class: "line" }, h("label", { class: "name" }, shown, h("span", { title: name }, name)), output), body),
    value: (found) => {
      const own = found.find((each) => each.label === k);
      output.textContent = own ? (own.value === null ? "–" : number(own.value)) : "";
    },
    sync() {
      const now = view.state.labels[k];
      shown.checked = now.on;
      body.hidden = !now.on;
      put(opacity, now.opacity);
      outline.checked = now.outline;
    },
  };
}
