// The chart of values along a line, and the line on the picture.

import { toScreen } from "./camera.js";
import { h, iconButton, svg } from "./dom.js";
import { number } from "./units.js";

const [WIDE, TALL] = [320, 130];

/** Return {element, line, show(a, b), place(), close()}: a chart, and an SVG to lie over the picture. */
export function profile(view) {
  const mark = svg("line", { class: "mark" });
  const line = svg("svg", { class: "over", "aria-hidden": "true" }, mark);
  const chart = svg("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, class: "chart", role: "img" });
  const text = h("p", { class: "caption" });
  const save = h("button", { type: "button", class: "quiet", onclick: () => download(found, view) }, "CSV");
  let ends = null;
  let found = null;
  const close = () => {
    ends = found = null;
    element.hidden = true;
    mark.removeAttribute("x1");
    line.classList.remove("on");
  };
  const element = h("section", { class: "profile", hidden: true, "aria-label": "Line profile" }, h("div", { class: "head" }, h("h2", {}, "Line profile"), save, iconButton("close", "Close the line profile", close)), chart, text);
  const place = () => {
    if (!ends) return;
    const [a, b] = ends.map((p) => toScreen(view.camera, p.x, p.y, view.view));
    for (const [key, value] of Object.entries({ x1: a.x, y1: a.y, x2: b.x, y2: b.y })) mark.setAttribute(key, value);
    line.classList.add("on");
  };
  return {
    element,
    line,
    close,
    place,
    async show(a, b) {
      ends = [a, b];
      place();
      const now = await view.profile(a, b);
      if (ends?.[0] !== a || ends[1] !== b) return; // the line was moved meanwhile
      found = now;
      element.hidden = false;
      plot(chart, now, view);
      const level = now.level ? `, level ${now.level}` : "";
      text.textContent = `${number(now.length, 4)} ${now.unit}, ${now.lines[0]?.values.length ?? 0} samples${level}`;
    },
    refresh() {
      if (ends && found) this.show(...ends);
    },
  };
}

function plot(chart, { lines, length, unit }, view) {
  const all = lines.flatMap((each) => each.values).filter((v) => v !== null && Number.isFinite(Number(v))).map(Number);
  const [lo, hi] = [Math.min(...all), Math.max(...all)];
  const x = (k, n) => 4 + (k / Math.max(1, n - 1)) * (WIDE - 8);
  const y = (v) => TALL - 18 - ((Number(v) - lo) / (hi - lo || 1)) * (TALL - 34);
  const curves = lines.map(({ channel, values }) => {
    const { color } = view.state.channels[channel];
    const points = values.map((v, k) => (v === null ? null : `${x(k, values.length).toFixed(1)},${y(v).toFixed(1)}`)).filter(Boolean);
    return svg("polyline", { points: points.join(" "), stroke: /^[0-9a-f]{6}$/.test(color) ? `#${color}` : "#ffd60a", class: "line" });
  });
  const texts = all.length ? [[4, 11, number(hi, 4), "start"], [4, TALL - 20, number(lo, 4), "start"], [4, TALL - 4, "0", "start"], [WIDE - 4, TALL - 4, `${number(length, 4)} ${unit}`, "end"]] : [];
  chart.setAttribute("aria-label", `Values from ${number(lo, 4)} to ${number(hi, 4)} along ${number(length, 4)} ${unit}`);
  chart.replaceChildren(...curves, ...texts.map(([at, down, words, anchor]) => svg("text", { x: at, y: down, "text-anchor": anchor }, words)));
}

function download({ lines, length, unit }, view) {
  const quoted = (name) => `"${name.replaceAll('"', '""').replace(/^[=+@-]/, "'$&")}"`; // no formulas in a table program
  const head = [`"position (${unit})"`, ...lines.map((each) => quoted(view.layer.channels[each.channel].name))];
  const n = lines[0]?.values.length ?? 0;
  const rows = Array.from({ length: n }, (_, k) => [(length * k) / Math.max(1, n - 1), ...lines.map((each) => each.values[k] ?? "")]);
  saveAs(new Blob([[head, ...rows].map((row) => row.join(",")).join("\n") + "\n"], { type: "text/csv" }), "profile.csv");
}

/** Let the browser save a blob as a file. */
export function saveAs(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
