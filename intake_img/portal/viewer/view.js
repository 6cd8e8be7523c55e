// One image as it is looked at: its state, the tiles it needs, what is drawn. Knows no controls: `panel.js` shows and
// changes the state, and hears of changes by events.

import { fit, levelFor, sampleAt, seen, toScreen } from "./camera.js";
import { channelColors, isRgb, ramp, stopsOf } from "./colors.js";
import { GlDrawer } from "./gl.js";
import { decode, encode } from "./link.js";
import { limitsOf, sampleOf } from "./histogram.js";
import { SoftDrawer } from "./soft.js";
import { highest, Tiles } from "./tiles.js";
import { ratio as unitRatio } from "./units.js";

const FIRST = 4; // channels that are shown when there are many
const MANY = 8;
const GROUND = [0.085, 0.088, 0.094]; // around the image
export const MOST_CHANNELS = 32;

/** Events: "scene" (another image), "change" (of the state), "drawn", "settled" (nothing is missing), "failed". */
export class View extends EventTarget {
  constructor(canvas, source, { software = false } = {}) {
    super();
    this.canvas = canvas;
    this.source = source;
    this.software = software;
    this.tiles = new Tiles((request, signal) => this.load(request, signal), {
      changed: () => this.update(),
      dropped: (tile) => this.begun?.drop(tile),
      failed: (error, request) => this.emit("failed", { error, request }),
    });
    this.settled = false;
    this.last = null; // where the axes were when all was there
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => (this.begun?.reset(), this.update()));
  }

  /** Begun when something is drawn first: WebGL takes its time, in which the first tiles are loaded. */
  get drawer() {
    return (this.begun ??= drawerOf(this.canvas, this.software));
  }

  /** Load and say nothing more. */
  close() {
    this.closed = true;
    this.turn = null;
    clearTimeout(this.timer);
    cancelAnimationFrame(this.planned);
    this.tiles.clear();
    this.begun?.sleep();
  }

  /** Hold nothing while the element is in no page. */
  rest() {
    this.tiles.want([]);
    this.begun?.sleep();
  }

  wake() {
    this.begun?.wake();
    this.resize();
  }

  emit(type, detail) {
    if (!this.closed) this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  // what is looked at

  async open(text = "") {
    this.image = await this.source.open();
    await this.goto(text);
  }

  /** Show what a link says; what it does not say is as when the image was opened. */
  async goto(text) {
    const said = decode(text);
    await this.show(Math.min(said.scene, this.image.scenes.length - 1), said.image, said);
  }

  async show(scene, image = 0, said = decode("")) {
    const turn = (this.turn = Symbol("turn"));
    if (scene !== this.state?.scene) {
      const found = await this.source.scene(this.image.scenes[scene].key);
      if (turn !== this.turn || this.closed) return; // another was asked for meanwhile
      this.tiles.clear();
      this.content = found;
    }
    this.last = this.stepped = null;
    this.layer = this.content.images[Math.min(image, this.content.images.length - 1)];
    this.defaults = initial(this.layer, this.content.labels, scene, this.content.images.indexOf(this.layer));
    this.state = merged(this.defaults, said, this.layer);
    this.ranges = this.layer.channels.map(() => null);
    this.aspect = aspectOf(this.layer);
    this.resize();
    this.emit("scene");
    this.change();
  }

  /** The link of the view. */
  get text() {
    return this.state ? encode(this.state, this.defaults) : "";
  }

  /** All that is needed to draw the view elsewhere, as plain values. */
  get told() {
    const { scene, image, index, channels, labels } = this.state;
    return {
      scene, image, index, camera: this.camera, aspect: this.aspect, screen: this.screen, level: this.shown[0]?.level ?? 0,
      channels: channels.map((c, k) => ({ ...c, name: this.layer.channels[k].name, stops: stopsOf(c.color) })),
      labels: labels.map((l, k) => ({ ...l, name: this.content.labels[k].name })),
    };
  }

  /** Axes with a slider. */
  get sliders() {
    return this.layer.dims.filter((dim) => !"cyx".includes(dim.name) && dim.size > 1);
  }

  /** Channels in groups that are set together: those of a colour picture, each by itself else. */
  get groups() {
    const { channels } = this.layer;
    if (isRgb(channels.map((c) => c.name))) return [{ name: "Colour", members: [0, 1, 2] }];
    return channels.map((c, k) => ({ name: c.name, members: [k] }));
  }

  /** Call after each change of the state. */
  change() {
    this.settled = false;
    this.emit("change");
    this.update();
  }

  setAxis(axis, at) {
    const { size } = this.layer.dims.find((dim) => dim.name === axis);
    const was = this.state.index[axis];
    this.state.index[axis] = at === "max" ? at : Math.min(Math.max(Math.round(at), 0), size - 1);
    this.stepped = { axis, step: this.state.index[axis] < was ? -1 : 1 };
    this.change();
  }

  get active() {
    return this.state.channels.flatMap((c, k) => (c.on ? [k] : []));
  }

  // the screen

  get view() {
    const { w, h, ratio } = this.screen;
    const full = fit(this.layer, this.aspect, w, h).k;
    return { w, h, ratio, aspect: this.aspect, least: Math.min(full / 4, 1), most: Math.max(64, full) };
  }

  get camera() {
    return this.state.camera ?? fit(this.layer, this.aspect, this.screen.w, this.screen.h);
  }

  set camera(camera) {
    const [height, width] = this.layer.levels[0].size;
    const within = (v, most) => Math.min(Math.max(v, 0), most);
    this.state.camera = camera && { ...camera, x: within(camera.x, width), y: within(camera.y, height) };
    this.change();
  }

  resize() {
    const ratio = Math.min(globalThis.devicePixelRatio || 1, 2);
    const [w, h] = [this.canvas.clientWidth || 300, this.canvas.clientHeight || 150];
    this.screen = { w, h, ratio };
    this.canvas.width = Math.round(w * ratio);
    this.canvas.height = Math.round(h * ratio);
    if (this.state) {
      if (this.begun) this.draw(); // a canvas that got another size is empty
      this.update();
    }
  }

  // tiles

  update() {
    if (!this.state || this.planned || this.closed) return;
    this.planned = requestAnimationFrame(() => {
      this.planned = 0;
      this.ask();
      this.draw();
    });
  }

  /** Layers to draw, from below: {layer, index, level, style}. */
  get shown() {
    const shown = this.active.map((c) => {
      const { lo, hi, gamma, color } = this.state.channels[c];
      const style = { lo: lo ?? 0, hi: hi ?? 1, gamma, ramp: ramp(color), hidden: lo === null };
      return { ...this.plane(this.layer, c), channel: c, style };
    });
    const labels = this.state.labels.flatMap((l, k) => (l.on ? [{ ...this.plane(this.content.labels[k], 0), label: k, style: { labels: true, ...l } }] : []));
    return [...shown, ...labels].map((each) => ({ ...each, style: { ...each.style, blend: !each.style.labels && this.scale(each) < 0.999 } }));
  }

  scale({ layer, level }) {
    return layer.levels[level].factor[1] * this.camera.k * this.screen.ratio;
  }

  plane(layer, c, index = this.state.index) {
    const own = {};
    for (const dim of layer.dims) {
      if (dim.name === "c") own.c = Math.min(c, dim.size - 1);
      else if (!"yx".includes(dim.name)) own[dim.name] = index[dim.name] === "max" ? "max" : Math.min(index[dim.name] ?? 0, dim.size - 1);
    }
    const deep = layer.dims.filter((dim) => own[dim.name] === "max").reduce((n, dim) => n * dim.size, 1);
    const planes = deep > 1 ? deep * Math.max(1, this.active.length) : 1;
    return { layer, index: own, level: levelFor(layer, this.camera, this.screen.ratio, this.view, planes) };
  }

  /** Say which tile is asked for; the index becomes that of the level, for coarse ones may have fewer planes. */
  request({ layer, index, level }, { ty, tx }) {
    const { along, path } = layer.levels[level];
    const own = Object.fromEntries(Object.entries(index).map(([axis, at]) => [axis, at === "max" ? at : planeOf(along[axis], at)]));
    return { key: `${path}|${Object.entries(own)}|${ty},${tx}`, layer, index: own, level, ty, tx };
  }

  async load({ layer, index, level, ty, tx }, signal) {
    const axis = Object.keys(index).find((name) => index[name] === "max");
    if (!axis) return this.source.tile(layer, level, index, ty, tx, signal);
    const { size } = layer.levels[level].along[axis];
    if (this.source.computes?.(layer, level, axis)) {
      try {
        return await this.source.tile(layer, level, index, ty, tx, signal);
      } catch {
        signal.throwIfAborted();
        this.source.projects = 0; // its limits are closer than it told
      }
    }
    return highest(size, (at) => this.load({ layer, level, ty, tx, index: { ...index, [axis]: at } }, signal), signal);
  }

  /** Ask for what is seen, a rough picture of it first; then for what will be seen next. */
  ask() {
    const planes = this.shown;
    const fine = planes.map((plane) => this.requests(plane));
    const rough = planes.flatMap((plane, k) => this.rough(plane, fine[k]));
    const was = this.settled;
    this.settled = this.tiles.want([...rough, ...interleaved(fine)], this.next(planes)) === 0;
    if (!this.settled) return;
    this.last = { ...this.state.index };
    clearTimeout(this.timer);
    if (this.active.some((c) => this.state.channels[c].lo === null)) this.measure();
    else this.timer = setTimeout(() => this.measure(), 100);
    if (!was) this.emit("settled");
  }

  requests(plane) {
    return seen(plane.layer.levels[plane.level], this.camera, this.view).map((cell) => this.request(plane, cell));
  }

  /** Requests of the next planes in the direction of the last step along an axis. */
  next(planes) {
    const { axis, step } = this.stepped ?? {};
    return planes.flatMap((plane) => {
      const at = plane.index[axis] + step;
      const dim = plane.layer.dims.find((each) => each.name === axis);
      return dim && at >= 0 && at < dim.size ? this.requests({ ...plane, index: { ...plane.index, [axis]: at } }) : [];
    });
  }

  rough(plane, requests) {
    const level = plane.layer.levels.length - 1;
    if (level === plane.level || Object.values(plane.index).includes("max") || requests.every((each) => this.tiles.ready.has(each.key))) return [];
    const cells = seen(plane.layer.levels[level], this.camera, this.view);
    return cells.length > 4 ? [] : cells.map((cell) => this.request({ ...plane, level }, cell));
  }

  draw() {
    const pictures = this.shown.flatMap((plane) => (plane.style.hidden ? [] : this.picturesOf(plane)));
    this.drawer.draw(pictures, GROUND, this.frame());
    this.emit("drawn");
  }

  frame() {
    const [height, width] = this.layer.levels[0].size;
    const { w, h, ratio } = this.screen;
    const [a, b] = [toScreen(this.camera, 0, 0, this.view), toScreen(this.camera, width, height, this.view)];
    const edge = (v, most) => Math.round(Math.min(Math.max(v, 0), most) * ratio);
    return [edge(a.x, w), edge(a.y, h), edge(b.x, w), edge(b.y, h)];
  }

  picturesOf(plane) {
    return seen(plane.layer.levels[plane.level], this.camera, this.view).flatMap((cell) => this.covered(plane, cell));
  }

  /** Cover the place of a tile once: by itself, by coarser ones, or by the plane that was shown before. */
  covered(plane, cell) {
    for (let level = plane.level; level < plane.layer.levels.length; level++) {
      const found = this.pieces({ ...plane, level }, cell);
      if (found) return found;
    }
    return (this.last && this.pieces({ ...plane, ...this.plane(plane.layer, plane.index.c ?? 0, this.last) }, cell)) || [];
  }

  pieces(plane, cell) {
    const level = plane.layer.levels[plane.level];
    const middle = { x: (cell.x0 + cell.x1) / 2, y: (cell.y0 + cell.y1) / 2, k: 1 };
    const tiles = seen(level, middle, { w: cell.x1 - cell.x0, h: cell.y1 - cell.y0, aspect: 1 });
    const found = [];
    for (const each of tiles) {
      const rect = [Math.max(cell.x0, each.x0), Math.max(cell.y0, each.y0), Math.min(cell.x1, each.x1), Math.min(cell.y1, each.y1)];
      if (rect[2] - rect[0] < 1e-6 || rect[3] - rect[1] < 1e-6) continue;
      const tile = this.tiles.get(this.request(plane, each).key);
      if (!tile) return null;
      found.push(this.piece(level, each, rect, tile, plane.style));
    }
    return found;
  }

  piece(level, { ty, tx }, [x0, y0, x1, y1], tile, style) {
    const { ratio } = this.screen;
    const [a, b] = [toScreen(this.camera, x0, y0, this.view), toScreen(this.camera, x1, y1, this.view)];
    const row = (y) => (y - level.offset[0]) / level.factor[0] - ty * level.tile[0];
    const column = (x) => (x - level.offset[1]) / level.factor[1] - tx * level.tile[1];
    return { tile, style, place: [a.x * ratio, a.y * ratio, b.x * ratio, b.y * ratio], part: [column(x0), row(y0), column(x1), row(y1)] };
  }

  // numbers

  /** Tiles of a channel that are seen and there. */
  readyTiles(c) {
    const plane = this.plane(this.layer, c);
    return this.requests(plane).map(({ key }) => this.tiles.ready.get(key)).filter(Boolean);
  }

  /** Take the range of values of what is seen; give limits to channels that have none yet. */
  measure() {
    let found = false;
    for (const c of this.active) {
      const sample = sampleOf(this.readyTiles(c));
      if (!sample.length) continue;
      const [old, lo, hi] = [this.ranges[c], sample[0], sample.at(-1)];
      this.ranges[c] = { lo: Math.min(lo, old?.lo ?? lo), hi: Math.max(hi, old?.hi ?? hi), sample };
      if (this.state.channels[c].lo !== null) continue;
      Object.assign(this.state.channels[c], limitsOf(sample));
      Object.assign(this.defaults.channels[c], limitsOf(sample));
      found = true;
    }
    if (found) this.change();
    else this.emit("measured");
  }

  /** Set the limits of channels by what is seen of them. */
  auto(channels = this.active) {
    const samples = channels.map((c) => sampleOf(this.readyTiles(c)));
    channels.forEach((c, k) => samples[k].length && Object.assign(this.state.channels[c], limitsOf(samples[k])));
    this.change();
  }

  /** Return what is known of a position: [{name, value, level}] of what is shown; value null where it is not there. */
  valuesAt(x, y) {
    return this.shown.map((plane) => {
      const name = plane.label === undefined ? this.layer.channels[plane.channel].name : plane.layer.name;
      for (const level of new Set([0, plane.level])) {
        const found = this.valueIn({ ...plane, level }, x, y);
        if (found !== null) return { name, channel: plane.channel, label: plane.label, value: found, level };
      }
      return { name, channel: plane.channel, label: plane.label, value: null, level: plane.level };
    });
  }

  valueIn(plane, x, y) {
    const at = sampleAt(plane.layer.levels[plane.level], x, y);
    const tile = at && this.tiles.ready.get(this.request(plane, at).key);
    return tile ? tile.data[at.row * tile.width + at.column] : null;
  }

  /** Load what the exact values at a position need. */
  async exact(x, y) {
    const wanted = this.shown.map((plane) => {
      const level = Object.values(plane.index).includes("max") ? plane.level : 0;
      const at = sampleAt(plane.layer.levels[level], x, y);
      return at && this.tiles.fetch(this.request({ ...plane, level }, at));
    });
    await Promise.allSettled(wanted);
    return this.valuesAt(x, y);
  }

  /** Return values along a line of the image, one a sample of the level that is shown: {length, unit, level, lines}. */
  async profile(a, b) {
    const planes = this.shown.filter((plane) => plane.channel !== undefined);
    const level = planes[0]?.level ?? 0;
    const [fy, fx] = this.layer.levels[level].factor;
    const n = Math.min(4096, Math.max(2, Math.ceil(Math.hypot((b.x - a.x) / fx, (b.y - a.y) / fy)) + 1));
    const points = Array.from({ length: n }, (_, k) => ({ x: a.x + ((b.x - a.x) * k) / (n - 1), y: a.y + ((b.y - a.y) * k) / (n - 1) }));
    const cells = points.map((p) => sampleAt(this.layer.levels[level], p.x, p.y)).filter(Boolean);
    const distinct = [...new Map(cells.map((cell) => [`${cell.ty},${cell.tx}`, cell])).values()];
    await Promise.allSettled(planes.flatMap((plane) => distinct.map((cell) => this.tiles.fetch(this.request(plane, cell)))));
    const lines = planes.map((plane) => ({ channel: plane.channel, values: points.map((p) => this.valueIn(plane, p.x, p.y)) }));
    return { ...this.distance(a, b), level, lines };
  }

  /** Size of a pixel: {x, y, unit}; without a unit it is 1. */
  get pixel() {
    const [y, x] = this.layer.dims.slice(-2);
    return x.spacing ? { x: x.spacing, y: x.spacing * this.aspect, unit: x.unit } : { x: 1, y: 1, unit: null };
  }

  distance(a, b) {
    const { x, y, unit } = this.pixel;
    return { length: Math.hypot((b.x - a.x) * x, (b.y - a.y) * y), unit: unit ?? "px" };
  }
}

function drawerOf(canvas, software) {
  if (software) return new SoftDrawer(canvas);
  try {
    return new GlDrawer(canvas);
  } catch {
    return new SoftDrawer(canvas);
  }
}

/** Return the plane of a level in which a plane of the first level lies. */
function planeOf({ size, factor, offset }, at) {
  return Math.min(Math.max(Math.floor((at + 0.5 - offset) / factor), 0), size - 1);
}

/** Height of a pixel in its width; 1 where it is not known. */
function aspectOf(layer) {
  const [y, x] = layer.dims.slice(-2);
  const factor = y.unit === x.unit ? 1 : unitRatio(y.unit, x.unit);
  const aspect = y.spacing && x.spacing && factor ? (y.spacing * factor) / x.spacing : 1;
  return aspect > 0.01 && aspect < 100 ? aspect : 1;
}

function initial(layer, labels, scene, image) {
  const colors = channelColors(layer.channels);
  const few = layer.channels.length <= MANY;
  const channels = layer.channels.map((c, k) => ({
    on: (few ? c.on : k < FIRST) && colors[k] !== "000000", lo: c.lo, hi: c.hi, color: colors[k], gamma: 1,
  }));
  if (channels.length && !channels.some((c) => c.on)) channels[0].on = true;
  const middle = (dim) => (dim.name === "z" ? Math.floor(dim.size / 2) : 0);
  const index = Object.fromEntries(layer.dims.filter((dim) => !"cyx".includes(dim.name)).map((dim) => [dim.name, middle(dim)]));
  return { scene, image, index, channels, labels: labels.map(() => ({ on: false, opacity: 0.5, outline: false })), camera: null };
}

function merged(defaults, said, layer) {
  const state = structuredClone(defaults);
  for (const dim of layer.dims) {
    const at = said.index[dim.name];
    if (at !== undefined && dim.name in state.index) state.index[dim.name] = at === "max" ? at : Math.min(at, dim.size - 1);
  }
  if (said.channels) {
    let left = MOST_CHANNELS;
    state.channels = state.channels.map((c, k) => ({ ...c, ...said.channels.get(k), on: said.channels.has(k) && left-- > 0 }));
  }
  state.labels = state.labels.map((l, k) => ({ ...l, ...said.labels.get(k) }));
  return { ...state, camera: said.camera };
}

/** Take from each list in turn. */
function interleaved(lists) {
  const most = Math.max(0, ...lists.map((list) => list.length));
  return Array.from({ length: most }, (_, k) => lists.flatMap((list) => (k < list.length ? [list[k]] : []))).flat();
}
