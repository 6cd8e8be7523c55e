// Where one looks: from pixels of the image to those of the screen, which level serves a zoom, which tiles are seen.
// Pixel i of the first level covers i to i + 1. All pure functions of {x, y, k}: centre, and screen pixels a pixel.

const COARSE = 1.42; // screen pixels that a sample may fill before the next finer level is taken

/** Return the camera that shows all of a layer in w x h screen pixels; `aspect` is the height of a pixel in its width. */
export function fit(layer, aspect, w, h) {
  const [height, width] = layer.levels[0].size;
  return { x: width / 2, y: height / 2, k: Math.min(w / width, h / (height * aspect)) * 0.98 };
}

/** Return the camera after zooming by `factor` around a point of the screen. */
export function zoomed(camera, factor, px, py, view) {
  const k = Math.min(Math.max(camera.k * factor, view.least), view.most);
  const at = toImage(camera, px, py, view);
  return { k, x: at.x - (px - view.w / 2) / k, y: at.y - (py - view.h / 2) / (k * view.aspect) };
}

/** Return the position in the image of a point of the screen. */
export function toImage(camera, px, py, { w, h, aspect }) {
  return { x: camera.x + (px - w / 2) / camera.k, y: camera.y + (py - h / 2) / (camera.k * aspect) };
}

/** Return the point of the screen of a position in the image. */
export function toScreen(camera, x, y, { w, h, aspect }) {
  return { x: (x - camera.x) * camera.k + w / 2, y: (y - camera.y) * camera.k * aspect + h / 2 };
}

/** Return the coarsest level whose samples are not seen as blocks; of `planes` planes, one that is small enough. */
export function levelFor(layer, camera, ratio, view, planes = 1, most = 6.4e7) {
  let level = 0;
  for (let k = 0; k < layer.levels.length; k++) {
    if (layer.levels[k].factor[1] * camera.k * ratio <= COARSE) level = k;
  }
  const samples = (k) => {
    const [fy, fx] = layer.levels[k].factor;
    const [height, width] = layer.levels[k].size;
    return planes * Math.min(width, view.w / camera.k / fx) * Math.min(height, view.h / (camera.k * view.aspect) / fy);
  };
  while (planes > 1 && level < layer.levels.length - 1 && samples(level) > most) level++;
  return level;
}

/** Return the tiles of a level that are seen, those in the middle first: [{ty, tx, x0, y0, x1, y1}] in image pixels. */
export function seen(level, camera, view) {
  const { factor, offset, tile, size } = level;
  const a = toImage(camera, 0, 0, view);
  const b = toImage(camera, view.w, view.h, view);
  const range = (lo, hi, axis) => {
    const cells = Math.ceil(size[axis] / tile[axis]);
    const at = (v) => Math.floor((v - offset[axis]) / factor[axis] / tile[axis]);
    return [Math.max(0, at(lo)), Math.min(cells - 1, at(hi))];
  };
  const [[top, bottom], [left, right]] = [range(a.y, b.y, 0), range(a.x, b.x, 1)];
  const found = [];
  for (let ty = top; ty <= bottom; ty++) for (let tx = left; tx <= right; tx++) found.push(placed(level, ty, tx));
  const far = (t) => Math.hypot((t.x0 + t.x1) / 2 - camera.x, (t.y0 + t.y1) / 2 - camera.y);
  return found.sort((p, q) => far(p) - far(q));
}

function placed({ factor, offset, tile, size }, ty, tx) {
  const edge = (cell, axis) => Math.min(cell * tile[axis], size[axis]) * factor[axis] + offset[axis];
  return { ty, tx, x0: edge(tx, 1), x1: edge(tx + 1, 1), y0: edge(ty, 0), y1: edge(ty + 1, 0) };
}

/** Return the tile and the sample in it at a position of the image; null beside the image. */
export function sampleAt({ factor, offset, tile, size }, x, y) {
  const [row, column] = [Math.floor((y - offset[0]) / factor[0]), Math.floor((x - offset[1]) / factor[1])];
  if (row < 0 || column < 0 || row >= size[0] || column >= size[1]) return null;
  const [ty, tx] = [Math.floor(row / tile[0]), Math.floor(column / tile[1])];
  return { ty, tx, row: row - ty * tile[0], column: column - tx * tile[1] };
}
