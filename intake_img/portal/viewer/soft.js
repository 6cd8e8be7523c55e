// Draws the same pictures as `gl.js` on a 2-D canvas, for browsers without WebGL2: slower, equal in what it shows.

import { labelColor } from "./colors.js";

/** Draws on a canvas by adding up light, pixel by pixel. */
export class SoftDrawer {
  constructor(canvas) {
    this.context = canvas.getContext("2d", { alpha: false });
    if (!this.context) throw new Error("this browser draws nothing");
  }

  draw(pictures, background, [x0, y0, x1, y1]) {
    const { width, height } = this.context.canvas;
    const image = this.context.createImageData(width, height); // clamps to 0...255 when written
    const light = new Float32Array(width * height * 3);
    const ground = background.map((v) => 255 * v);
    for (let k = 0; k < light.length; k += 3) {
      const [x, y] = [(k / 3) % width, Math.floor(k / 3 / width)];
      if (x < x0 || x >= x1 || y < y0 || y >= y1) light.set(ground, k);
    }
    for (const picture of pictures) paint(light, width, height, picture);
    for (let k = 0, p = 0; p < image.data.length; p += 4) {
      image.data[p] = light[k++];
      image.data[p + 1] = light[k++];
      image.data[p + 2] = light[k++];
      image.data[p + 3] = 255;
    }
    this.context.putImageData(image, 0, 0);
  }

  drop() {}

  sleep() {}

  wake() {}

  reset() {}
}

function paint(light, width, height, { tile, place, part, style }) {
  const columns = sampled(place[0], place[2], part[0], part[2], width, tile.width);
  const rows = sampled(place[1], place[3], part[1], part[3], height, tile.height);
  const mix = style.labels ? labelled(tile, style) : lit(tile, style);
  for (const [y, row] of rows) {
    for (const [x, column] of columns) mix(light, 3 * (y * width + x), row, column);
  }
}

/** Return [screen pixel, sample] of one axis. */
function sampled(from, to, a, b, most, size) {
  const found = [];
  for (let p = Math.max(0, Math.ceil(from - 0.5)); p < Math.min(most, Math.ceil(to - 0.5)); p++) {
    found.push([p, Math.min(Math.max(Math.floor(a + ((p + 0.5 - from) / (to - from)) * (b - a)), 0), size - 1)]);
  }
  return found;
}

function lit({ data, width }, { lo, hi, gamma, ramp }) {
  const wide = hi > lo ? hi - lo : 1e-6;
  return (light, k, row, column) => {
    const v = Number(data[row * width + column]);
    if (v !== v) return;
    const share = Math.min(Math.max((v - lo) / wide, 0), 1);
    const at = 4 * Math.round(255 * (gamma === 1 ? share : share ** (1 / gamma)));
    for (let j = 0; j < 3; j++) light[k + j] = Math.min(255, light[k + j] + ramp[at + j]);
  };
}

function labelled({ data, width, height }, { opacity, outline }) {
  const value = (row, column) => Number(data[Math.min(Math.max(row, 0), height - 1) * width + Math.min(Math.max(column, 0), width - 1)]);
  return (light, k, row, column) => {
    const n = value(row, column);
    const inner = outline && [value(row - 1, column), value(row + 1, column), value(row, column - 1), value(row, column + 1)].every((m) => m === n);
    if (!n || inner) return;
    const color = labelColor(n);
    for (let j = 0; j < 3; j++) light[k + j] += opacity * (color[j] - light[k + j]);
  };
}
