// Sliders of the axes that are not on the screen: step, play, and the maximum along z.

import { h, icon, iconButton, put } from "./dom.js";
import { number } from "./units.js";

const NAMES = { t: "Time", z: "Z", i: "Sample", v: "View", h: "Phase", r: "Rotation", l: "Wavelength", b: "Block", m: "Mosaic" };
const PAUSE = 100; // ms between planes that play

/** Return {element, build(), sync()} of a view. */
export function axes(view) {
  const element = h("div", { class: "axes" });
  let rows = [];
  return {
    element,
    build() {
      rows.forEach((each) => each.stop());
      rows = view.sliders.map((dim) => slider(view, dim));
      element.replaceChildren(...rows.map((each) => each.element));
      element.hidden = !rows.length;
      this.sync();
    },
    sync: () => rows.forEach((each) => each.sync()),
    play: (axis) => rows.find((each) => each.axis === axis)?.play(),
  };
}

function slider(view, dim) {
  const name = NAMES[dim.name] ?? dim.name;
  const at = () => (view.state.index[dim.name] === "max" ? 0 : view.state.index[dim.name]);
  const go = (to) => view.setAxis(dim.name, (to + dim.size) % dim.size);
  const range = h("input", { type: "range", min: "0", max: String(dim.size - 1), step: "1", "aria-label": name, oninput: (e) => view.setAxis(dim.name, Number(e.target.value)) });
  const text = h("output", { class: "where" });
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    show();
  };
  const play = () => {
    if (timer) return stop();
    timer = setInterval(() => view.settled && document.visibilityState !== "hidden" && go(at() + 1), PAUSE);
    show();
  };
  const button = iconButton("play", `Play ${name}`, play, { "aria-pressed": "false" });
  const show = () => {
    button.replaceChildren(icon(timer ? "pause" : "play"));
    button.setAttribute("aria-pressed", String(Boolean(timer)));
  };
  const most = dim.name === "z" ? h("button", { type: "button", class: "quiet", title: "Maximum along z (m)", "aria-pressed": "false", onclick: () => view.setAxis("z", view.state.index.z === "max" ? Math.floor(dim.size / 2) : "max") }, "Max") : null;
  return {
    axis: dim.name,
    element: h("div", { class: "axis" }, h("span", { class: "title" }, name), iconButton("back", `Previous ${name}`, () => go(at() - 1)), range, iconButton("next", `Next ${name}`, () => go(at() + 1)), text, button, most),
    play,
    stop,
    sync() {
      const whole = view.state.index[dim.name] === "max";
      put(range, at());
      const place = dim.spacing ? ` · ${number(at() * dim.spacing + (dim.origin ?? 0), 4)} ${dim.unit}` : "";
      text.textContent = whole ? `all ${dim.size}` : `${at() + 1} / ${dim.size}${place}`;
      range.setAttribute("aria-valuetext", text.textContent);
      range.disabled = whole;
      most?.setAttribute("aria-pressed", String(whole));
    },
  };
}
