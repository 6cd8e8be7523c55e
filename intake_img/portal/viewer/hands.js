// Hands on the picture: mouse, touch, keys.

import { toImage, zoomed } from "./camera.js";

/** What the keys do, in words. */
export const KEYS = [
  ["Arrows", "move"], ["+ −", "zoom"], ["0", "show all"], ["1 … 9", "channel on, off"], ["a", "auto contrast"],
  ["[ ]", "step along z"], [", .", "step along time"], ["m", "maximum along z"], ["space", "play"], ["l", "labels on, off"],
  ["p", "line profile"], ["h", "hide controls"], ["?", "these keys"],
];

/** Move and zoom `view` by what happens on its canvas; `tools` are {measuring(), measure(a, b), point(x, y), leave()}. */
export function hands(view, tools) {
  const { canvas } = view;
  const fingers = new Map();
  let start = null;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const position = (p) => toImage(view.camera, p.x, p.y, view.view);
  const two = () => {
    const [a, b] = [...fingers.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 0 || !view.state) return;
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, at(event));
    start = { camera: view.camera, from: position(at(event)), pair: fingers.size === 2 ? two() : null };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!view.state) return;
    const p = at(event);
    tools.point(position(p));
    if (!fingers.has(event.pointerId)) return;
    const before = fingers.get(event.pointerId);
    fingers.set(event.pointerId, p);
    if (fingers.size === 2) pinch();
    else if (tools.measuring()) tools.measure(start.from, position(p));
    else if (fingers.size === 1) move(before.x - p.x, before.y - p.y);
  });
  const up = (event) => fingers.delete(event.pointerId);
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => fingers.size || tools.leave());
  canvas.addEventListener("dblclick", (event) => view.state && !tools.measuring() && zoom(2, at(event)));
  canvas.addEventListener("wheel", (event) => {
    if (!view.state) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    if (event.shiftKey) step("z", Math.sign(event.deltaY || event.deltaX));
    else zoom(2 ** (-Math.max(-300, Math.min(300, event.deltaY * lines)) / 250), at(event));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (!view.state || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = keys[event.key] ?? (/^[1-9]$/.test(event.key) ? () => channel(Number(event.key) - 1) : null);
    if (!act) return;
    event.preventDefault();
    act(event);
  });

  function pinch() {
    const now = two();
    if (!start.pair) return;
    const camera = zoomed(start.camera, now.apart / start.pair.apart, start.pair.x, start.pair.y, view.view);
    view.camera = { ...camera, x: camera.x - (now.x - start.pair.x) / camera.k, y: camera.y - (now.y - start.pair.y) / (camera.k * view.aspect) };
  }
  function move(x, y) {
    const { camera } = view;
    view.camera = { ...camera, x: camera.x + x / camera.k, y: camera.y + y / (camera.k * view.aspect) };
  }
  function zoom(factor, p = { x: view.screen.w / 2, y: view.screen.h / 2 }) {
    view.camera = zoomed(view.camera, factor, p.x, p.y, view.view);
  }
  function step(axis, by) {
    const now = view.state.index[axis];
    if (view.sliders.some((dim) => dim.name === axis) && now !== "max") view.setAxis(axis, now + by);
  }
  function channel(k) {
    const group = view.groups[k];
    if (!group) return;
    const on = !view.state.channels[group.members[0]].on;
    for (const member of group.members) view.state.channels[member].on = on;
    view.change();
  }
  function labels() {
    const on = !view.state.labels.some((each) => each.on);
    view.state.labels.forEach((each) => (each.on = on));
    view.change();
  }
  function most() {
    const dim = view.sliders.find((each) => each.name === "z");
    if (dim) view.setAxis("z", view.state.index.z === "max" ? Math.floor(dim.size / 2) : "max");
  }
  const far = (event) => (event.shiftKey ? 5 : 1) * 40;
  const keys = {
    ArrowLeft: (e) => move(-far(e), 0), ArrowRight: (e) => move(far(e), 0), ArrowUp: (e) => move(0, -far(e)), ArrowDown: (e) => move(0, far(e)),
    "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: () => (view.camera = null),
    "[": () => step("z", -1), "]": () => step("z", 1), ",": () => step("t", -1), ".": () => step("t", 1),
    a: () => view.auto(), m: most, l: labels, " ": () => tools.play(), p: () => tools.profile(), h: () => tools.panel(), "?": () => tools.help(),
  };
  return { zoom, all: () => (view.camera = null) };
}
