// <intake-viewer src="image.zarr">: the viewer as an element of a page. Puts the picture, its controls and hands
// together; attributes are src, pixels, projects, link ("hash"), theme ("light", "dark") and software.

import { axes } from "./axes.js";
import { h, iconButton } from "./dom.js";
import { hands, KEYS } from "./hands.js";
import { panel } from "./panel.js";
import { profile, saveAs } from "./profile.js";
import { dress } from "./style.js";
import { number, scaleBar } from "./units.js";
import { View } from "./view.js";
import { ZarrSource } from "./zarr.js";

const LINK_PAUSE = 200; // ms before the address follows
const REST = 120; // ms that the pointer rests before exact values are loaded
const ROOM = 160; // pixels for the scale bar

/** The element; `source` may be set instead of the attribute src. Events: "statechange" (or of the size), "settled". */
export class IntakeViewer extends HTMLElement {
  static observedAttributes = ["src", "pixels"];

  connectedCallback() {
    if (this.view) return this.revive();
    this.started = true;
    this.root = this.shadowRoot ?? this.attachShadow({ mode: "open" });
    if (this.source || this.getAttribute("src")) this.begin();
  }

  disconnectedCallback() {
    this.watch?.disconnect();
    removeEventListener("hashchange", this.follow);
    this.axes?.build && this.view?.layer && this.axes.build(); // stops what plays
    this.view?.rest();
  }

  attributeChangedCallback(name, before, now) {
    if (!this.started || before === now || this.changing) return;
    this.changing = true; // src and pixels change together
    queueMicrotask(() => {
      this.changing = false;
      this.source = null;
      if (this.getAttribute("src")) this.begin();
    });
  }

  revive() {
    this.watch.observe(this.canvas);
    if (this.getAttribute("link") === "hash") addEventListener("hashchange", this.follow);
    this.view.wake();
  }

  /** The state of the view as a short text, as it stands in links. */
  get state() {
    return this.view?.text ?? this.wanted ?? "";
  }

  set state(text) {
    if (!this.view?.state) this.wanted = text;
    else if (text !== this.view.text) this.view.goto(text).catch((error) => this.fail(error));
  }

  // building

  begin() {
    const source = this.source ?? new ZarrSource(this.absolute("src"), this.absolute("pixels"), Number(this.getAttribute("projects")) || 0);
    this.build(source);
    const linked = this.getAttribute("link") === "hash" ? location.hash.slice(1) : "";
    const { view } = this;
    this.ready = view.open(linked || this.wanted || "").catch((error) => view === this.view && this.fail(error));
  }

  absolute(name) {
    const value = this.getAttribute(name);
    return value && new URL(value, document.baseURI).href;
  }

  build(source) {
    this.watch?.disconnect();
    this.view?.close();
    dress(this.root);
    this.canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": "Image", "aria-describedby": "keys" });
    this.view = new View(this.canvas, source, { software: this.hasAttribute("software") });
    this.panel = panel(this.view, (error) => this.note(error.message));
    this.axes = axes(this.view);
    this.profile = profile(this.view);
    this.root.replaceChildren(this.frame());
    this.hands = hands(this.view, this.tools());
    this.listen();
    this.watch = new ResizeObserver(() => (this.view.resize(), this.later()));
    this.watch.observe(this.canvas);
  }

  frame() {
    this.bar = h("div", { class: "bar" });
    this.barText = h("output", { class: "length" });
    this.busy = h("div", { class: "busy" });
    this.message = h("div", { class: "message", role: "alert", hidden: true });
    this.notice = h("div", { class: "message note", role: "status", hidden: true });
    this.where = h("output", { class: "position" });
    this.size = h("output", { class: "zoom" });
    const scale = h("div", { class: "scale" }, this.barText, this.bar);
    this.stage = h("div", { class: "stage" }, this.canvas, this.profile.line, this.busy, this.toolbar(), scale, this.profile.element, this.message, this.notice);
    this.help = h("dialog", { "aria-label": "Keys" }, h("h2", {}, "Keys, when the picture has the focus"), h("dl", { id: "keys" }, KEYS.flatMap(([key, what]) => [h("dt", {}, key), h("dd", {}, what)])), h("button", { type: "button", class: "quiet", onclick: () => this.help.close() }, "Close"));
    this.all = h("div", { class: "all" }, this.stage, this.axes.element, h("div", { class: "status" }, this.where, this.size), this.panel.element, this.help);
    return this.all;
  }

  toolbar() {
    const linked = this.getAttribute("link") === "hash";
    this.ruler = iconButton("profile", "Line profile (p)", () => this.measure(), { "aria-pressed": "false" });
    return h("div", { class: "tools", role: "toolbar", "aria-label": "Picture" },
      iconButton("in", "Zoom in (+)", () => this.hands.zoom(1.5)), iconButton("out", "Zoom out (-)", () => this.hands.zoom(1 / 1.5)),
      iconButton("fit", "Show all (0)", () => this.hands.all()), this.ruler,
      iconButton("save", "Save the picture", () => this.save()),
      linked ? iconButton("link", "Copy a link to this view", () => this.copy()) : null,
      iconButton("full", "Full screen", () => (document.fullscreenElement ? document.exitFullscreen() : this.requestFullscreen()).catch(() => {})),
      iconButton("panel", "Hide or show the controls (h)", () => this.tools().panel()), iconButton("help", "Keys (?)", () => this.help.showModal(), { class: "tool desk" }));
  }

  tools() {
    return {
      measuring: () => this.measuring,
      measure: (a, b) => this.profile.show(a, b),
      point: (at) => this.point(at),
      leave: () => this.point(null),
      play: () => this.axes.play((this.view.sliders.find((dim) => dim.name === "t") ?? this.view.sliders[0])?.name),
      profile: () => this.measure(),
      panel: () => this.all.classList.toggle("bare"),
      help: () => this.help.showModal(),
    };
  }

  // what happens

  listen() {
    const { view } = this;
    view.addEventListener("scene", () => this.scene());
    view.addEventListener("change", () => this.changed());
    view.addEventListener("measured", () => this.panel.sync());
    view.addEventListener("drawn", () => this.drawn());
    view.addEventListener("settled", () => this.settledNow());
    view.addEventListener("failed", ({ detail }) => this.note(`Part of the image could not be loaded: ${detail.error.message}`, true));
    removeEventListener("hashchange", this.follow);
    this.follow = () => (this.state = location.hash.slice(1));
    if (this.getAttribute("link") === "hash") addEventListener("hashchange", this.follow);
  }

  scene() {
    const { view } = this;
    this.message.hidden = this.notice.hidden = true;
    this.profile.close();
    this.panel.build();
    this.axes.build();
    const [height, width] = view.layer.levels[0].size;
    this.canvas.setAttribute("aria-label", `${view.image.name}, ${width} × ${height} pixels`);
    this.size.title = view.layer.dtype;
    this.point(null);
  }

  changed() {
    this.panel.sync();
    this.axes.sync();
    this.later();
  }

  later() {
    clearTimeout(this.linking);
    this.linking = setTimeout(() => this.view.state && this.tell(), LINK_PAUSE);
  }

  tell() {
    const text = this.view.text;
    if (this.getAttribute("link") === "hash" && text !== location.hash.slice(1)) history.replaceState(history.state, "", text ? `#${text}` : location.pathname + location.search);
    this.dispatchEvent(new CustomEvent("statechange", { detail: text }));
  }

  drawn() {
    const { view } = this;
    const { x, unit } = view.pixel;
    const { pixels, text } = scaleBar(x / view.camera.k, unit, Math.min(ROOM, view.screen.w / 3));
    this.bar.style.width = `${pixels.toFixed(1)}px`;
    this.barText.textContent = text;
    this.busy.classList.toggle("on", !view.settled);
    this.profile.place();
    const [height, width] = view.layer.levels[0].size;
    const level = view.shown[0]?.level ?? 0;
    this.size.textContent = `${number(view.camera.k * view.screen.ratio * 100, 3)} %${level ? ` · level ${level}` : ""} · ${width} × ${height} · ${view.layer.dtype}`;
    this.say();
  }

  settledNow() {
    this.profile.refresh();
    this.rest();
    this.dispatchEvent(new CustomEvent("settled"));
  }

  // what is said

  point(at) {
    this.pointed = at;
    this.say();
    this.rest();
  }

  /** Load the exact values under the pointer once it rests. */
  rest() {
    clearTimeout(this.resting);
    if (this.pointed) this.resting = setTimeout(() => this.pointed && this.view.state && this.view.exact(this.pointed.x, this.pointed.y).then(() => this.say()), REST);
  }

  say() {
    const { view, pointed } = this;
    if (!view.state) return;
    const [height, width] = view.layer.levels[0].size;
    const inside = pointed && pointed.x >= 0 && pointed.y >= 0 && pointed.x < width && pointed.y < height;
    const found = inside ? view.valuesAt(pointed.x, pointed.y) : [];
    this.panel.values(found);
    this.where.textContent = inside ? this.words(found) : "";
  }

  words(found) {
    const [x, y] = [Math.floor(this.pointed.x), Math.floor(this.pointed.y)];
    const [dy, dx] = this.view.layer.dims.slice(-2);
    const place = dx.spacing ? ` · ${number(x * dx.spacing + dx.origin, 5)}, ${number(y * (dy.spacing ?? 1) + dy.origin, 5)} ${dx.unit}` : "";
    const values = found.map((each) => `${each.name} ${each.value === null ? "–" : number(each.value)}`).join("  ");
    const rough = Math.max(0, ...found.map((each) => (each.value === null ? 0 : each.level)));
    return `x ${x}, y ${y}${place}${rough ? ` · level ${rough}` : ""} · ${values}`;
  }

  note(text, again = false) {
    const retry = () => {
      this.notice.hidden = true;
      this.view.tiles.retry();
      this.view.update();
    };
    this.notice.replaceChildren(text, again ? h("div", {}, h("button", { type: "button", class: "quiet", onclick: retry }, "Try again")) : "");
    this.notice.hidden = false;
    clearTimeout(this.noticing);
    if (!again) this.noticing = setTimeout(() => (this.notice.hidden = true), 4000);
  }

  fail(error) {
    this.message.replaceChildren(`The image cannot be shown: ${error.message}`);
    this.message.hidden = false;
    this.dispatchEvent(new CustomEvent("failed", { detail: error }));
  }

  // what the tools do

  measure() {
    this.measuring = !this.measuring;
    this.ruler.setAttribute("aria-pressed", String(this.measuring));
    this.stage.classList.toggle("measuring", this.measuring);
    if (this.measuring) this.note("Draw a line on the picture");
    else this.profile.close();
  }

  /** Return a Blob with a PNG of the picture as it is seen, with its scale bar. */
  png() {
    this.view.draw();
    const { canvas } = this;
    const { ratio } = this.view.screen;
    const copy = h("canvas", { width: canvas.width, height: canvas.height });
    const pen = copy.getContext("2d");
    pen.drawImage(canvas, 0, 0);
    const [wide, low] = [parseFloat(this.bar.style.width) * ratio, canvas.height - 14 * ratio];
    pen.fillStyle = "#fff";
    pen.fillRect(14 * ratio, low, wide, 4 * ratio);
    pen.font = `${13 * ratio}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.fillText(this.barText.textContent, 14 * ratio + wide / 2, low - 5 * ratio);
    return new Promise((resolve) => copy.toBlob(resolve, "image/png"));
  }

  async save() {
    saveAs(await this.png(), `${this.view.image.name.replace(/[^\w.-]+/g, "_") || "image"}.png`);
  }

  copy() {
    this.tell();
    const said = () => this.note("Link copied");
    navigator.clipboard?.writeText(location.href).then(said, () => this.note(location.href)) ?? this.note(location.href);
  }
}

if (!customElements.get("intake-viewer")) customElements.define("intake-viewer", IntakeViewer);
