// Tiles in memory: which are there, which are on the way, which are asked next. The oldest are dropped at a limit of
// bytes; what is not wanted any more is aborted.

/** A cache of tiles over `load(request, signal)`; a request is {key, ...}. */
export class Tiles {
  constructor(load, { bytes = 384 * 2 ** 20, parallel = 8, changed = () => {}, dropped = () => {}, failed = () => {} } = {}) {
    Object.assign(this, { load, limit: bytes, parallel, changed, dropped, failed });
    this.ready = new Map();
    this.underway = new Map();
    this.broken = new Map();
    this.queue = [];
    this.bytes = 0;
  }

  /** Return a tile that is there. */
  get(key) {
    const tile = this.ready.get(key);
    if (tile) {
      this.ready.delete(key);
      this.ready.set(key, tile);
    }
    return tile;
  }

  /** Ask for these requests, the first ones first, then for `later` ones, and for nothing else. Return how many of the
   *  first are missing. */
  want(requests, later = []) {
    const wanted = new Set([...requests, ...later].map((each) => each.key));
    for (const [key, { controller, kept }] of this.underway) {
      if (!wanted.has(key) && !kept) controller.abort();
    }
    const missing = (each) => !this.ready.has(each.key) && !this.broken.has(each.key);
    this.queue = [...requests, ...later].filter(missing);
    this.pump();
    return requests.filter(missing).length;
  }

  /** Return a promise of one tile, which is not aborted by `want`. */
  fetch(request) {
    const tile = this.get(request.key);
    if (tile) return Promise.resolve(tile);
    const entry = this.underway.get(request.key) ?? this.start(request);
    entry.kept = true;
    return entry.promise;
  }

  /** Forget failures, so that they are tried again. */
  retry() {
    this.broken.clear();
  }

  clear() {
    for (const { controller } of this.underway.values()) controller.abort();
    for (const tile of this.ready.values()) this.dropped(tile);
    this.queue = [];
    this.ready.clear();
    this.broken.clear();
    this.bytes = 0;
  }

  pump() {
    for (const request of this.queue) {
      if (this.underway.size >= this.parallel) return;
      if (!this.underway.has(request.key)) this.start(request);
    }
  }

  start(request) {
    const controller = new AbortController();
    const entry = { controller, kept: false };
    this.underway.set(request.key, entry);
    entry.promise = this.load(request, controller.signal).then((tile) => this.arrived(request.key, tile));
    entry.promise.catch((error) => {
      if (controller.signal.aborted || error.name === "AbortError") return;
      this.broken.set(request.key, error);
      this.failed(error, request);
    }).finally(() => {
      if (this.underway.get(request.key) === entry) this.underway.delete(request.key);
      this.queue = this.queue.filter((each) => !this.ready.has(each.key) && !this.broken.has(each.key));
      this.pump();
      this.changed();
    });
    return entry;
  }

  arrived(key, tile) {
    this.ready.set(key, tile);
    this.bytes += tile.data.byteLength;
    for (const [old, each] of this.ready) {
      if (this.bytes <= this.limit || old === key) break;
      this.ready.delete(old);
      this.bytes -= each.data.byteLength;
      this.dropped(each);
    }
    return tile;
  }
}

/** Return the largest values of many tiles, loaded a few together. */
export async function highest(count, load, signal) {
  let out = null;
  let next = 0;
  const one = async () => {
    while (next < count && !signal.aborted) {
      const { data, width, height } = await load(next++);
      if (!out) out = { data: data.slice(), width, height };
      else for (let k = 0; k < data.length; k++) if (data[k] > out.data[k] || out.data[k] !== out.data[k]) out.data[k] = data[k];
    }
  };
  await Promise.all([one(), one(), one(), one()]);
  signal.throwIfAborted();
  return out;
}
