// Reads OME-Zarr 0.5 over HTTP: documents become scenes of layers, chunks become planes of numbers.
// Knows nothing of drawing. Samples stay in their own dtype, so that values can be read exactly.

import { lengthUnit } from "./units.js";

const ARRAYS = {
  bool: Uint8Array, uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, uint64: BigUint64Array,
  int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
  float16: Uint16Array, float32: Float32Array, float64: Float64Array, complex64: Float32Array, complex128: Float64Array,
};
const BIGGEST_TILE = 2048; // pixels: longer chunks are cut, for textures have a limit
const CUT_TILE = 1024;
const TRIES = 5;
const SERVE = "serve it with intake-img portal";
const CHUNK_CACHE = 96 * 2 ** 20; // bytes of chunks that hold several planes or tiles

const joined = (...parts) => parts.filter((part) => part !== "").join("/");

/** An OME-Zarr group at a URL. With `pixels`, decoded chunks are asked from there, by the same keys; that server computes
 *  maxima along an axis of as many bytes as `projects`. */
export class ZarrSource {
  constructor(src, pixels = null, projects = 0) {
    this.src = src.replace(/\/+$/, "");
    this.pixels = pixels?.replace(/\/+$/, "") ?? null;
    this.documents = new Map();
    this.told = []; // groups that told all that they hold
    this.chunks = new Chunks();
    this.projects = this.pixels ? projects : 0;
  }

  /** Whether the server computes the maxima of a tile along an axis. */
  computes(layer, level, axis) {
    const { array, shape, chunks } = layer.levels[level];
    const bytes = shape[layer.axes.indexOf(axis)] * product(chunks) * (ARRAYS[array.data_type]?.BYTES_PER_ELEMENT ?? 8);
    return !array.data_type.startsWith("complex") && bytes <= this.projects;
  }

  /** Return {name, scenes: [{key, name}]}. */
  async open() {
    const root = await this.group("");
    if (!root) throw new Error(`no Zarr group at ${this.src}: expected a file zarr.json`);
    const ome = root.attributes?.ome;
    if (!ome) throw new Error(`the Zarr group at ${this.src} has no OME metadata (version 0.5)`);
    const title = decodeURIComponent(this.src.split("/").pop().replace(/(\.ome)?\.zarr$/, ""));
    if (ome.multiscales) return { name: ome.multiscales[0].name || title, scenes: [{ key: "", name: title }] };
    const ours = root.attributes?.intake_img?.series ?? [];
    if (ome.plate || ome.well) return { name: ome.plate?.name || title, scenes: await this.fields(ome, ours) };
    const series = (await this.group("OME"))?.attributes?.ome?.series ?? (await this.numbered());
    if (!series.length) throw new Error(`the group at ${this.src} lists no image`);
    const named = (key, k) => ours.find((each) => each.path === key)?.name || `Image ${k + 1}`;
    return { name: title, scenes: series.map((key, k) => ({ key: String(key), name: named(key, k) })) };
  }

  /** Return the fields of a plate or a well; what our portal lists need not be asked for, well by well. */
  async fields({ plate, well }, ours) {
    if (ours.length) return ours.map(({ path, name }) => ({ key: path, name }));
    const wells = plate ? plate.wells.map(({ path }) => path) : [""];
    const documents = await Promise.all(wells.map((path) => (path ? this.group(path) : { attributes: { ome: { well } } })));
    const found = documents.flatMap((document, k) => (document?.attributes?.ome?.well?.images ?? []).map(({ path }) => joined(wells[k], path)));
    if (!found.length) throw new Error(`the plate at ${this.src} lists no field`);
    return found.map((key) => ({ key, name: key }));
  }

  async numbered() {
    const found = [];
    while (found.length < 1000 && (await this.group(String(found.length)))) found.push(String(found.length));
    return found;
  }

  /** Return {name, images: [layer], labels: [layer]} of a scene. */
  async scene(key) {
    const document = await this.group(key);
    const first = await this.layer(key, document);
    const images = [first, ...(await this.variables(key, document))];
    const listed = await this.labelled(key, document);
    const named = new Map(Object.entries(document.attributes.intake_img?.arrays ?? {}).map(([name, [path]]) => [path.replace(/\/[^/]+$/, ""), name]));
    const labels = await Promise.all(listed.map((name) => this.layerAt(joined(key, "labels", name), "labels", named.get(`labels/${name}`) ?? name)));
    return { name: first.name, images, labels: labels.filter((layer) => layer.levels.length) };
  }

  async labelled(key, document) {
    const ours = document.attributes.intake_img?.arrays;
    if (ours && !Object.values(ours).some(([path]) => path.startsWith("labels/"))) return []; // nothing to ask for
    return (await this.group(joined(key, "labels")))?.attributes?.ome?.labels ?? [];
  }

  async variables(key, document) {
    const ours = Object.entries(document.attributes.intake_img?.arrays ?? {});
    const folders = ours.map(([name, paths]) => [name, paths[0].replace(/\/?[^/]+$/, "")]);
    const beside = folders.filter(([, folder]) => folder && !folder.startsWith("labels/"));
    return Promise.all(beside.map(([name, folder]) => this.layerAt(joined(key, folder), "image", name)));
  }

  async layerAt(path, kind, name) {
    const document = await this.group(path);
    if (!document?.attributes?.ome?.multiscales) return { levels: [] };
    return { ...(await this.layer(path, document)), kind, name };
  }

  async layer(path, document) {
    const ome = document?.attributes?.ome;
    const entry = ome?.multiscales?.[0];
    if (!entry) throw new Error(`no image in the group ${path || "/"} of ${this.src}`);
    const levels = await Promise.all(entry.datasets.map((dataset) => this.level(joined(path, dataset.path), dataset, entry)));
    const axes = entry.axes.map((axis) => axis.name);
    if (axes.slice(-2).join("") !== "yx") throw new Error(`the axes are ${axes.join("")}: expected y and x at the end`);
    return described(entry, ome, levels, axes, "image-label" in ome ? "labels" : "image");
  }

  async level(path, dataset, entry) {
    const array = await this.document(path);
    if (!array?.shape) throw new Error(`the array ${path} of ${this.src} is missing`);
    const n = array.shape.length;
    const scale = transformed("scale", dataset, entry, n, 1, (a, b) => a * b);
    const shift = transformed("translation", dataset, entry, n, 0, (a, b) => a + b);
    return { path, array, scale, shift, shape: array.shape, chunks: array.chunk_grid.configuration.chunk_shape };
  }

  group(path) {
    return this.document(path);
  }

  /** Return a zarr.json, or null if there is none; what a group above tells of all that it holds is not asked for. */
  async document(path) {
    if (!this.documents.has(path)) {
      if (this.told.some((prefix) => !prefix || path.startsWith(`${prefix}/`))) return null;
      const loading = this.load(joined(path, "zarr.json"));
      this.documents.set(path, loading);
      const found = (await loading)?.consolidated_metadata?.metadata;
      if (found) this.told.push(path);
      for (const [key, value] of Object.entries(found ?? {})) this.documents.set(joined(path, key), Promise.resolve(value));
    }
    return this.documents.get(path);
  }

  async load(key) {
    const response = await fetch(`${this.src}/${key}`);
    if (response.status === 404) return null;
    if (!response.ok) throw new Error(`${key}: the server answered ${response.status} ${response.statusText}`);
    return response.json();
  }

  /** Return {data, width, height} of a tile of a plane; `index` gives a number for each axis but y and x, or "max" where
   *  the server computes the maximum. */
  async tile(layer, level, index, ty, tx, signal) {
    const { path, array, shape, chunks, tile } = layer.levels[level];
    const [y, x] = [ty * tile[0], tx * tile[1]];
    const corner = layer.axes.map((axis) => (axis === "y" ? y : axis === "x" ? x : index[axis] ?? 0));
    const grid = corner.map((at, k) => (at === "max" ? at : Math.floor(at / chunks[k])));
    const several = chunks.slice(0, -2).some((n) => n > 1) || tile[0] < chunks.at(-2) || tile[1] < chunks.at(-1);
    const load = (abort) => this.chunk(path, array, grid, abort);
    const data = several ? await this.chunks.get(`${path}:${grid}`, load, signal) : await load(signal);
    const clipped = chunks.map((n, k) => (grid[k] === "max" ? 1 : Math.min(n, shape[k] - grid[k] * n)));
    const from = data.length === product(chunks) ? chunks : clipped;
    const size = [Math.min(tile[0], shape.at(-2) - y), Math.min(tile[1], shape.at(-1) - x)];
    return cut(data, from, corner.map((at, k) => (at === "max" ? 0 : at - grid[k] * chunks[k])), size);
  }

  async chunk(path, array, grid, signal) {
    const bytes = await this.bytes(`${path}/${chunkKey(array, grid)}`, array, signal);
    if (bytes === null) return filled(array, product(array.chunk_grid.configuration.chunk_shape));
    return numbers(bytes, array.data_type, !this.pixels && isBig(array.codecs));
  }

  /** Return the samples of a chunk, or null if there is none. */
  async bytes(key, array, signal) {
    const response = await patient(`${this.pixels ?? this.src}/${key}`, signal);
    if (response.status === 404) return null;
    if (!response.ok) throw new Error(`the server answered ${response.status} ${response.statusText}`);
    return this.pixels ? response.arrayBuffer() : decoded(response, array.codecs);
  }
}

/** Fetch; where a server is busy, wait as long as it says. */
async function patient(url, signal) {
  for (let tries = 0; ; tries++) {
    const response = await fetch(url, { signal });
    if (response.status !== 503 || tries === TRIES) return response;
    const seconds = Math.min(Math.max(Number(response.headers.get("Retry-After")) || 1, 0.2), 30);
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    signal?.throwIfAborted();
  }
}

const product = (values) => values.reduce((a, b) => a * b, 1);

function chunkKey(array, grid) {
  const { name, configuration } = array.chunk_key_encoding;
  const separator = configuration?.separator ?? (name === "v2" ? "." : "/");
  return name === "v2" ? grid.join(separator) || "0" : ["c", ...grid].join(separator);
}

function transformed(type, dataset, entry, n, none, combine) {
  const listed = [...(dataset.coordinateTransformations ?? []), ...(entry.coordinateTransformations ?? [])];
  const found = listed.filter((each) => each.type === type).map((each) => each[type]);
  return found.reduce((a, b) => a.map((v, k) => combine(v, b[k])), Array(n).fill(none));
}

/** Make a layer of the metadata: sizes and spacing of axes, channels, and where the pixels of levels lie. */
function described(entry, ome, levels, axes, kind) {
  const [first] = levels;
  const dims = axes.map((name, k) => {
    const unit = lengthUnit(entry.axes[k].unit);
    return { name, size: first.shape[k], unit, spacing: unit ? first.scale[k] : null, origin: unit ? first.shift[k] : 0 };
  });
  const omero = ome.omero?.channels ?? [];
  const n = axes.includes("c") ? first.shape[axes.indexOf("c")] : 1;
  const channels = Array.from({ length: n }, (_, k) => ({
    name: omero[k]?.label ?? (n > 1 ? `Channel ${k + 1}` : entry.name || "Image"),
    color: /^[0-9a-f]{6}$/i.test(omero[k]?.color ?? "") ? omero[k].color.toLowerCase() : null,
    lo: omero[k]?.window?.start ?? null,
    hi: omero[k]?.window?.end ?? null,
    on: omero[k]?.active ?? true,
  }));
  const [y, x] = [axes.length - 2, axes.length - 1];
  for (const level of levels) {
    level.size = [level.shape[y], level.shape[x]];
    level.tile = [y, x].map((k) => (level.chunks[k] > BIGGEST_TILE ? CUT_TILE : level.chunks[k]));
    const along = axes.map((_, k) => {
      const factor = level.scale[k] / first.scale[k];
      return { size: level.shape[k], factor, offset: (level.shift[k] - first.shift[k]) / first.scale[k] - (factor - 1) / 2 };
    });
    level.along = Object.fromEntries(axes.map((axis, k) => [axis, along[k]]));
    level.factor = [along[y].factor, along[x].factor];
    level.offset = [along[y].offset, along[x].offset];
  }
  return { name: entry.name || "Image", kind, axes, dims, channels, levels, dtype: first.array.data_type };
}

/** Copy a rectangle of one plane out of a chunk in C order. */
function cut(data, shape, corner, [height, width]) {
  const wide = shape.at(-1);
  let start = 0;
  for (let k = 0; k < shape.length; k++) start = start * shape[k] + corner[k];
  if (width === wide) return { data: data.subarray(start, start + height * wide), width, height };
  const out = new data.constructor(width * height);
  for (let row = 0; row < height; row++) {
    out.set(data.subarray(start + row * wide, start + row * wide + width), row * width);
  }
  return { data: out, width, height };
}

const isBig = (codecs) => codecs.some((codec) => codec.name === "bytes" && codec.configuration?.endian === "big");

async function decoded(response, codecs) {
  let bytes = await response.arrayBuffer();
  for (const { name } of [...codecs].reverse()) {
    if (name === "crc32c") bytes = bytes.slice(0, -4);
    else if (name === "gzip" || name === "zstd") bytes = await inflated(bytes, name);
    else if (name !== "bytes") throw new Error(`its chunks are encoded by ${name}, which browsers do not know: ${SERVE}`);
  }
  return bytes;
}

function inflated(bytes, name) {
  try {
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream(name))).arrayBuffer();
  } catch {
    throw new Error(`its chunks are compressed by ${name}, which this browser does not know: ${SERVE}`);
  }
}

function numbers(buffer, dtype, big) {
  const Type = ARRAYS[dtype];
  if (!Type) throw new Error(`its dtype ${dtype} cannot be drawn: expected integers or real numbers`);
  if (big) swap(new Uint8Array(buffer), Type.BYTES_PER_ELEMENT);
  const data = new Type(buffer);
  if (dtype.startsWith("complex")) return data.filter((_, k) => k % 2 === 0).map((re, k) => Math.hypot(re, data[2 * k + 1]));
  return dtype === "float16" ? Float32Array.from(data, half) : data;
}

function swap(bytes, size) {
  for (let k = 0; k < bytes.length; k += size) bytes.subarray(k, k + size).reverse();
}

function half(bits) {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

function filled(array, length) {
  const Type = array.data_type === "float16" ? Float32Array : ARRAYS[array.data_type];
  const out = new Type(length);
  const value = array.fill_value;
  if (value && !Array.isArray(value)) out.fill(typeof out[0] === "bigint" ? BigInt(value) : Number(value)); // "NaN", "Infinity" are numbers too
  return out;
}

/** Decoded chunks that serve several tiles: loaded once, dropped when old, aborted when nobody waits any more. */
class Chunks {
  constructor() {
    this.entries = new Map();
    this.bytes = 0;
  }

  get(key, load, signal) {
    let entry = this.entries.get(key);
    if (!entry) {
      const controller = new AbortController();
      entry = { waiting: 0, controller, promise: load(controller.signal) };
      entry.promise.then((data) => this.keep(entry, data), () => this.entries.delete(key));
    } else this.entries.delete(key);
    this.entries.set(key, entry); // at the end: the newest
    entry.waiting++;
    return new Promise((resolve, reject) => {
      signal?.addEventListener("abort", () => {
        if (--entry.waiting === 0 && !entry.size) this.drop(key, entry);
        reject(new DOMException("not wanted any more", "AbortError"));
      });
      entry.promise.then(resolve, reject);
    });
  }

  drop(key, entry) {
    entry.controller.abort();
    if (this.entries.get(key) === entry) this.entries.delete(key);
  }

  keep(entry, data) {
    entry.size = data.byteLength;
    this.bytes += entry.size;
    for (const [key, old] of this.entries) {
      if (this.bytes <= CHUNK_CACHE) break;
      if (!old.size || old === entry) continue;
      this.entries.delete(key);
      this.bytes -= old.size;
    }
  }
}
