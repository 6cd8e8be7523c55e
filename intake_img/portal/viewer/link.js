// The state of a view as a short text, for links: only what differs from the default is said, and of channels only
// those that are shown.

const digits = (value, n = 6) => String(Number(Number(value).toPrecision(n)));

/** Return the text of a state; `defaults` is the state as it was when the image was opened. */
export function encode(state, defaults) {
  const parts = [];
  const say = (key, value) => parts.push(`${key}=${value}`);
  if (state.scene) say("s", state.scene);
  if (state.image) say("v", state.image);
  for (const [axis, at] of Object.entries(state.index)) if (at !== defaults.index[axis]) say(axis, at);
  const channels = encodeChannels(state.channels, defaults.channels);
  if (channels !== null) say("c", channels);
  const labels = state.labels.map((l, k) => (l.on ? [k, Math.round(l.opacity * 100), l.outline ? 1 : 0].join("~") : null)).filter(Boolean);
  if (labels.length) say("l", labels.join("_"));
  if (state.camera) parts.push(`at=${digits(state.camera.x)}~${digits(state.camera.y)}~${digits(state.camera.k, 4)}`);
  return parts.join("&");
}

function encodeChannels(channels, defaults) {
  const said = channels.map((c, k) => (c.on ? encodeChannel(c, defaults[k], k) : null)).filter((each) => each !== null);
  const usual = defaults.map((c, k) => (c.on ? String(k) : null)).filter((each) => each !== null);
  return said.join("_") === usual.join("_") ? null : runs(said);
}

function encodeChannel(c, usual, k) {
  const own = (key, text) => (c[key] === usual[key] ? "" : text);
  const moved = c.lo !== usual.lo || c.hi !== usual.hi;
  const limits = moved && c.lo !== null ? [digits(c.lo), digits(c.hi)] : ["", ""];
  return [k, ...limits, own("color", c.color), own("gamma", digits(c.gamma, 3))].join("~").replace(/~+$/, "");
}

/** Join runs of channels that say nothing but their number: 0-99. */
function runs(said) {
  const out = [];
  for (const each of said) {
    const last = out.at(-1);
    const bare = /^\d+$/.test(each) && last && /^\d+(-\d+)?$/.test(last);
    if (bare && Number(each) === Number(last.split("-").pop()) + 1) out[out.length - 1] = `${last.split("-")[0]}-${each}`;
    else out.push(each);
  }
  return out.join("_");
}

/** Return what a text says: {scene, image, index, channels: Map, labels: Map, camera}, each as far as it is said. */
export function decode(text) {
  const said = Object.fromEntries(text.split("&").filter((part) => part.includes("=")).map((part) => part.split(/=(.*)/s)));
  const { s, v, c, l, at, ...index } = said;
  const camera = at?.split("~").map(Number);
  return {
    scene: whole(s) ?? 0,
    image: whole(v) ?? 0,
    index: Object.fromEntries(Object.entries(index).filter(([axis]) => /^[a-z]$/.test(axis)).map(([axis, n]) => [axis, n === "max" ? n : whole(n) ?? 0])),
    channels: c === undefined ? null : new Map(c.split("_").flatMap(decodeChannel)),
    labels: new Map((l ? l.split("_") : []).map((each) => each.split("~")).map(([k, o, line]) => [Number(k), { on: true, opacity: (whole(o) ?? 50) / 100, outline: line === "1" }])),
    camera: camera?.length === 3 && camera.every(Number.isFinite) && camera[2] > 0 ? { x: camera[0], y: camera[1], k: camera[2] } : null,
  };
}

const whole = (text) => (/^\d{1,9}$/.test(text ?? "") ? Number(text) : null);

function decodeChannel(text) {
  const [where, lo, hi, color, gamma] = text.split("~");
  const [from, to] = where.split("-").map(whole);
  if (from === null) return [];
  const own = {};
  if (lo && hi && Number.isFinite(+lo) && Number.isFinite(+hi)) Object.assign(own, { lo: +lo, hi: +hi });
  if (/^([0-9a-f]{6}|[a-z]{3,12})$/.test(color ?? "")) own.color = color;
  if (Number(gamma) > 0) own.gamma = Number(gamma);
  return Array.from({ length: Math.min((to ?? from) - from, 9999) + 1 }, (_, k) => [from + k, own]);
}
