// Draws tiles with WebGL2: samples lie in textures of their own dtype and become light in the shader, so that a change
// of contrast loads nothing. Channels add up; labels lie over them.

const VERTEX = `#version 300 es
uniform vec4 place; // of the tile, on the screen, -1 to 1
uniform vec4 part; // of the tile, in samples
out vec2 at;
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  at = mix(part.xy, part.zw, corner);
  gl_Position = vec4(mix(place.xy, place.zw, corner), 0.0, 1.0);
}`;

const fragment = (sampler) => `#version 300 es
precision highp float;
precision highp int;
uniform highp ${sampler} samples;
uniform sampler2D ramp;
uniform vec2 limits;
uniform float gamma, opacity;
uniform bool labels, outline, blend;
in vec2 at;
out vec4 color;
ivec2 inside(ivec2 p) { return clamp(p, ivec2(0), textureSize(samples, 0) - 1); }
float value(ivec2 p) { return float(texelFetch(samples, inside(p), 0).r); }
float between() {
  vec2 q = at - 0.5;
  ivec2 p = ivec2(floor(q));
  vec2 f = q - vec2(p);
  return mix(mix(value(p), value(p + ivec2(1, 0)), f.x), mix(value(p + ivec2(0, 1)), value(p + ivec2(1, 1)), f.x), f.y);
}
vec3 labelColor(uint n) {
  float hue = float(n * 2654435769u) / 4294967296.0;
  float saturation = n % 3u == 0u ? 0.55 : n % 3u == 1u ? 0.75 : 0.95;
  float bright = (n / 3u) % 2u == 1u ? 0.8 : 1.0;
  vec3 part = abs(fract(vec3(hue) + vec3(1.0, 2.0 / 3.0, 1.0 / 3.0)) * 6.0 - 3.0) - 1.0;
  return bright * mix(vec3(1.0), clamp(part, 0.0, 1.0), saturation);
}
uint label(vec2 p) { return uint(texelFetch(samples, inside(ivec2(floor(p))), 0).r); }
void main() {
  if (labels) {
    uint n = label(at);
    vec2 d = max(vec2(dFdx(at.x), abs(dFdy(at.y))) * 1.5, vec2(0.0)); // two screen pixels wide
    bool edge = label(at + vec2(d.x, 0.0)) != n || label(at - vec2(d.x, 0.0)) != n
             || label(at + vec2(0.0, d.y)) != n || label(at - vec2(0.0, d.y)) != n;
    float a = n == 0u || (outline && !edge) ? 0.0 : opacity;
    color = vec4(labelColor(n) * a, a);
    return;
  }
  float v = blend ? between() : value(ivec2(floor(at)));
  if (isnan(v) || !(v == v)) { color = vec4(0.0); return; }
  float light = pow(clamp((v - limits.x) / (limits.y - limits.x), 0.0, 1.0), 1.0 / gamma);
  color = vec4(texture(ramp, vec2((light * 255.0 + 0.5) / 256.0, 0.5)).rgb, 0.0);
}`;

const FORMATS = {
  Uint8Array: ["R8UI", "RED_INTEGER", "UNSIGNED_BYTE", "usampler2D"],
  Uint16Array: ["R16UI", "RED_INTEGER", "UNSIGNED_SHORT", "usampler2D"],
  Uint32Array: ["R32UI", "RED_INTEGER", "UNSIGNED_INT", "usampler2D"],
  Int8Array: ["R8I", "RED_INTEGER", "BYTE", "isampler2D"],
  Int16Array: ["R16I", "RED_INTEGER", "SHORT", "isampler2D"],
  Int32Array: ["R32I", "RED_INTEGER", "INT", "isampler2D"],
  Float32Array: ["R32F", "RED", "FLOAT", "sampler2D"],
};

/** Draws on a canvas; throws where there is no WebGL2. */
export class GlDrawer {
  constructor(canvas) {
    this.gl = canvas.getContext("webgl2", { antialias: false, alpha: false, powerPreference: "low-power" });
    if (!this.gl) throw new Error("no WebGL2");
    this.programs = {};
    this.textures = new Map(); // by tile
    this.ramps = new Map();
    this.gl.pixelStorei(this.gl.UNPACK_ALIGNMENT, 1);
    this.gl.bindVertexArray(this.gl.createVertexArray());
  }

  /** Draw pictures: {tile, place: [x0, y0, x1, y1] on the canvas, part: [...] in samples, style}, on
   *  the `background`; `frame` is where the image lies, in pixels of the canvas. */
  draw(pictures, background, frame) {
    const { gl } = this;
    const { width, height } = gl.canvas;
    gl.viewport(0, 0, width, height);
    gl.clearColor(...background, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    this.blacken(frame, height);
    gl.enable(gl.BLEND);
    for (const picture of pictures) this.picture(picture, width, height);
  }

  /** Make the frame of the image black: light is added to it. */
  blacken([x0, y0, x1, y1], height) {
    const { gl } = this;
    gl.enable(gl.SCISSOR_TEST);
    gl.scissor(x0, height - y1, Math.max(0, x1 - x0), Math.max(0, y1 - y0));
    gl.clearColor(0, 0, 0, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.disable(gl.SCISSOR_TEST);
  }

  picture({ tile, place, part, style }, width, height) {
    const { gl } = this;
    const ramp = style.labels ? null : this.ramp(style.ramp); // before the tile is bound: it may be uploaded
    const texture = this.texture(tile);
    const program = this.program(texture.sampler);
    gl.useProgram(program.id);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, texture.id);
    gl.uniform4f(program.place, (2 * place[0]) / width - 1, 1 - (2 * place[1]) / height, (2 * place[2]) / width - 1, 1 - (2 * place[3]) / height);
    gl.uniform4f(program.part, ...part);
    gl.uniform1i(program.labels, style.labels ? 1 : 0);
    gl.uniform1i(program.blend, style.blend ? 1 : 0);
    if (style.labels) {
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
      gl.uniform1f(program.opacity, style.opacity);
      gl.uniform1i(program.outline, style.outline ? 1 : 0);
    } else {
      gl.blendFunc(gl.ONE, gl.ONE);
      gl.activeTexture(gl.TEXTURE1);
      gl.bindTexture(gl.TEXTURE_2D, ramp);
      gl.uniform2f(program.limits, style.lo, style.hi > style.lo ? style.hi : style.lo + 1e-6 * (Math.abs(style.lo) || 1));
      gl.uniform1f(program.gamma, style.gamma);
    }
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  program(sampler) {
    return (this.programs[sampler] ??= this.compiled(sampler));
  }

  compiled(sampler) {
    const { gl } = this;
    const id = gl.createProgram();
    for (const [type, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, fragment(sampler)]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(id, shader);
    }
    gl.linkProgram(id);
    if (!gl.getProgramParameter(id, gl.LINK_STATUS) && !gl.isContextLost()) throw new Error(gl.getProgramInfoLog(id) || "the shader failed");
    gl.useProgram(id);
    const names = ["place", "part", "limits", "gamma", "opacity", "labels", "outline", "blend"];
    const at = (name) => gl.getUniformLocation(id, name);
    gl.uniform1i(at("samples"), 0);
    gl.uniform1i(at("ramp"), 1);
    return { id, ...Object.fromEntries(names.map((name) => [name, at(name)])) };
  }

  texture(tile) {
    if (!this.textures.has(tile)) this.textures.set(tile, this.uploaded(tile));
    return this.textures.get(tile);
  }

  uploaded({ data, width, height }) {
    const { gl } = this;
    const known = FORMATS[data.constructor.name] ? data : Float32Array.from(data, Number); // 64 bits
    const [internal, format, type, sampler] = FORMATS[known.constructor.name];
    const id = this.bound();
    gl.texImage2D(gl.TEXTURE_2D, 0, gl[internal], width, height, 0, gl[format], gl[type], known);
    return { id, sampler };
  }

  bound(filter = this.gl.NEAREST) {
    const { gl } = this;
    const id = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, id);
    for (const key of ["TEXTURE_MIN_FILTER", "TEXTURE_MAG_FILTER"]) gl.texParameteri(gl.TEXTURE_2D, gl[key], filter);
    for (const key of ["TEXTURE_WRAP_S", "TEXTURE_WRAP_T"]) gl.texParameteri(gl.TEXTURE_2D, gl[key], gl.CLAMP_TO_EDGE);
    return id;
  }

  ramp(colors) {
    if (!this.ramps.has(colors)) {
      const { gl } = this;
      const id = this.bound(gl.LINEAR);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, colors);
      this.ramps.set(colors, id);
    }
    return this.ramps.get(colors);
  }

  /** Give back the memory of a tile. */
  drop(tile) {
    const texture = this.textures.get(tile);
    if (texture) this.gl.deleteTexture(texture.id);
    this.textures.delete(tile);
  }

  /** Give the context back, for browsers have few; `wake` asks for it again. */
  sleep() {
    this.loss = this.gl.getExtension("WEBGL_lose_context");
    if (!this.gl.isContextLost()) this.loss?.loseContext();
  }

  wake() {
    if (this.gl.isContextLost()) this.loss?.restoreContext();
  }

  /** Forget all textures: after the context was lost they are gone. */
  reset() {
    this.programs = {};
    this.textures.clear();
    this.ramps.clear();
    this.gl.pixelStorei(this.gl.UNPACK_ALIGNMENT, 1);
    this.gl.bindVertexArray(this.gl.createVertexArray());
  }
}
