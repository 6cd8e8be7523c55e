// The viewer as a widget of notebooks (anywidget): documents and chunks come through the widget's messages.
// Asked are {get: key, id} and {drop: id}; answers are {id, ok}, with the bytes beside, or {id, error}.

import { IntakeViewer } from "./intake-viewer.js";
import { ZarrSource } from "./zarr.js";

const PATIENCE = 5000; // ms before it is said that the kernel does not answer
let asked = 0; // of all views: ids differ

/** An image in the kernel. */
export class KernelSource extends ZarrSource {
  constructor(model, say) {
    super(encodeURIComponent(model.get("name")), "kernel"); // chunks come decoded
    Object.assign(this, { model, say, waiting: new Map() });
    this.prefix = `${Date.now().toString(36)}${Math.random().toString(36).slice(2, 6)}`;
    this.hear = (message, buffers) => this.heard(message, buffers);
    model.on("msg:custom", this.hear);
  }

  close() {
    this.model.off("msg:custom", this.hear);
    for (const id of [...this.waiting.keys()]) this.drop(id);
  }

  ask(key, signal) {
    const id = `${this.prefix}-${++asked}`;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.say("The kernel is busy or gone: what is missing comes when it is free"), PATIENCE);
      this.waiting.set(id, { resolve, reject, timer });
      signal?.addEventListener("abort", () => this.drop(id));
      this.model.send({ get: key, id });
    });
  }

  drop(id) {
    const entry = this.taken(id);
    if (!entry) return;
    this.model.send({ drop: id });
    entry.reject(new DOMException("not wanted any more", "AbortError"));
  }

  taken(id) {
    const entry = this.waiting.get(id);
    this.waiting.delete(id);
    clearTimeout(entry?.timer);
    return entry;
  }

  heard({ id, ok, error }, buffers) {
    const entry = this.taken(id);
    if (!entry) return;
    if (error) entry.reject(new Error(error));
    else entry.resolve(ok ? copied(buffers[0]) : null);
  }

  async load(key) {
    const bytes = await this.ask(key);
    return bytes && JSON.parse(new TextDecoder().decode(bytes));
  }

  bytes(key, array, signal) {
    return this.ask(key, signal);
  }
}

const copied = (view) => (view.buffer ? view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) : view);

/** Show the widget in an element; return the function that ends it. */
export function render({ model, el }) {
  const viewer = document.createElement("intake-viewer");
  const source = new KernelSource(model, (text) => viewer.note(text));
  const sized = () => (viewer.style.height = `${model.get("height")}px`);
  const followed = () => (viewer.state = model.get("link"));
  const told = ({ detail }) => {
    model.set("link", detail);
    model.set("seen", viewer.view.told);
    model.save_changes();
  };
  viewer.source = source;
  viewer.state = model.get("link");
  viewer.addEventListener("statechange", told);
  model.on("change:link", followed);
  model.on("change:height", sized);
  sized();
  dressed(viewer);
  el.dataset.lmSuppressShortcuts = "true"; // JupyterLab's keys are not for us
  el.append(viewer);
  return () => {
    model.off("change:link", followed);
    model.off("change:height", sized);
    source.close();
    viewer.remove();
  };
}

/** Follow the theme of the notebook, where it says one. */
function dressed(viewer) {
  const { jpThemeLight, vscodeThemeKind } = document.body.dataset;
  if (jpThemeLight) viewer.setAttribute("theme", jpThemeLight === "true" ? "light" : "dark");
  else if (vscodeThemeKind) viewer.setAttribute("theme", vscodeThemeKind.includes("light") ? "light" : "dark");
}

export default { render, IntakeViewer };
