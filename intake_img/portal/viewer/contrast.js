// The control of contrast: a histogram with two limits; each is a slider of its own, and what is between them moves both.

import { h, svg } from "./dom.js";
import { heights } from "./histogram.js";

const STEPS = 1000;
const BINS = 64;

/** Return {element, sync({lo, hi, range, color, whole})}; `changed(lo, hi)` is called by hand movements. */
export function contrast(name, changed) {
  const curve = svg("path", { class: "curve" });
  const window_ = svg("rect", { class: "window", y: 0, height: 1 });
  const picture = svg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", class: "histogram", "aria-hidden": "true" }, window_, curve);
  const [low, high] = ["Lower", "Upper"].map((which) => h("input", { type: "range", min: "0", max: String(STEPS), step: "1", "aria-label": `${which} limit of ${name}` }));
  const element = h("div", { class: "contrast" }, picture, low, high);
  let now = { lo: 0, hi: 1, range: { lo: 0, hi: 1 }, whole: true };

  const place = (value) => (value - now.range.lo) / (now.range.hi - now.range.lo || 1);
  const value = (share) => {
    const found = now.range.lo + share * (now.range.hi - now.range.lo);
    return now.whole ? Math.round(found) : found;
  };
  const apart = () => (now.whole ? 1 : (now.range.hi - now.range.lo) / STEPS);
  low.addEventListener("input", () => changed(Math.min(value(low.value / STEPS), now.hi - apart()), now.hi));
  high.addEventListener("input", () => changed(now.lo, Math.max(value(high.value / STEPS), now.lo + apart())));
  picture.addEventListener("pointerdown", (event) => {
    const start = { x: event.clientX, lo: now.lo, hi: now.hi };
    const width = picture.getBoundingClientRect().width || 1;
    picture.setPointerCapture(event.pointerId);
    picture.onpointermove = ({ clientX }) => {
      const by = value(place(start.lo) + (clientX - start.x) / width) - start.lo;
      changed(start.lo + by, start.hi + by);
    };
    picture.onpointerup = picture.onpointercancel = () => (picture.onpointermove = null);
  });

  return {
    element,
    sync(state) {
      if (state.range.sample !== now.range.sample || state.range.lo !== now.range.lo || state.range.hi !== now.range.hi) {
        const tall = state.range.sample ? heights(state.range.sample, state.range.lo, state.range.hi, BINS) : [];
        const at = tall.map((height, k) => `L${k / BINS} ${1 - height}L${(k + 1) / BINS} ${1 - height}`).join("");
        curve.setAttribute("d", at ? `M0 1${at}L1 1Z` : "");
      }
      now = state;
      element.style.setProperty("--tint", state.color);
      const clamp = (v) => Math.min(Math.max(v, 0), 1);
      const [a, b] = [clamp(place(state.lo)), clamp(place(state.hi))];
      window_.setAttribute("x", a);
      window_.setAttribute("width", b - a);
      for (const [input, share, v] of [[low, a, state.lo], [high, b, state.hi]]) {
        input.value = String(Math.round(share * STEPS));
        input.setAttribute("aria-valuetext", String(v));
      }
    },
  };
}
