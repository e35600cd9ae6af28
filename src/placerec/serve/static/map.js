// The map: photos as dots on a canvas, with the outline of the land, or map tiles on request.
// Positions are on the square of Web Mercator: x and y from 0 to 1, from the north-west.

const EARTH_RADIUS = 6371008.8; // metres
const CLOSEST = 2 ** 32, FARTHEST = 200; // pixels for the whole world
const LAND_UNTIL = 2 ** 18; // closer than this the outline is too rough: it would be wrong by a village
const TILE = 256, DEEPEST = 19;

const radians = (degrees) => degrees * Math.PI / 180;

export function metresBetween(one, two) {
  const [a, b] = [radians(one.latitude), radians(two.latitude)];
  const across = radians(two.longitude - one.longitude);
  const h = Math.sin((b - a) / 2) ** 2 + Math.cos(a) * Math.cos(b) * Math.sin(across / 2) ** 2;
  return 2 * EARTH_RADIUS * Math.asin(Math.min(1, Math.sqrt(h)));
}

export function metres(length) {
  if (length >= 9950) return `${Math.round(length / 1000)}\u00a0km`;
  if (length >= 995) return `${(length / 1000).toFixed(1)}\u00a0km`;
  return `${Math.round(length)}\u00a0m`;
}

function project(place) {
  const latitude = radians(Math.max(-85, Math.min(85, place.latitude)));
  const y = 0.5 - Math.asinh(Math.tan(latitude)) / (2 * Math.PI);
  return { x: place.longitude / 360 + 0.5, y };
}

function unproject({ x, y }) {
  const latitude = Math.atan(Math.sinh((0.5 - y) * 2 * Math.PI)) * 180 / Math.PI;
  return { longitude: (x - 0.5) * 360, latitude };
}

export class PhotoMap {
  constructor(canvas, onPick) {
    this.canvas = canvas;
    this.onPick = onPick;
    this.photos = [];
    this.marks = [];
    this.where = null;
    this.land = null;
    this.tiles = "";
    this.loaded = new Map();
    this.middle = { x: 0.5, y: 0.5 };
    this.scale = 600;
    this.pointers = new Map();
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.listen();
  }

  // photos: {number, latitude, longitude}, with positions only.
  setPhotos(photos) {
    this.photos = photos.map((photo) => ({ photo, ...project(photo) }));
    this.draw();
  }

  setLand(rings) {
    this.land = new Path2D();
    for (const ring of rings) {
      let [longitude, latitude] = ring;
      for (let at = 0; at < ring.length; at += 2) {
        if (at) { longitude += ring[at]; latitude += ring[at + 1]; }
        const { x, y } = project({ longitude: longitude / 100, latitude: latitude / 100 });
        this.land[at ? "lineTo" : "moveTo"](x, y);
      }
      this.land.closePath();
    }
    this.draw();
  }

  // marks: {latitude, longitude, label, on}; where: {latitude, longitude, radius_68, radius_95}.
  mark(marks, where) {
    this.marks = marks;
    this.where = where;
    this.draw();
  }

  fit(places, leastMetres = 150) {
    const points = places.map(project);
    if (!points.length) return;
    const xs = points.map((p) => p.x), ys = points.map((p) => p.y);
    const [left, right] = [xs.reduce((a, b) => Math.min(a, b)), xs.reduce((a, b) => Math.max(a, b))];
    const [top, bottom] = [ys.reduce((a, b) => Math.min(a, b)), ys.reduce((a, b) => Math.max(a, b))];
    this.middle = { x: (left + right) / 2, y: (top + bottom) / 2 };
    const least = leastMetres / this.metresAcross();
    const { width, height } = this.size();
    const room = 0.8;
    this.zoomTo(Math.min(width * room / Math.max(right - left, least), height * room / Math.max(bottom - top, least)));
  }

  fitAll() { this.fit(this.photos.map((p) => p.photo)); }

  zoomTo(scale) {
    this.scale = Math.max(FARTHEST, Math.min(CLOSEST, scale));
    this.draw();
  }

  // The length in metres of the whole width of the world at the latitude of the middle.
  metresAcross() {
    return 2 * Math.PI * EARTH_RADIUS * Math.cos(radians(unproject(this.middle).latitude));
  }

  size() { return { width: this.canvas.clientWidth || 1, height: this.canvas.clientHeight || 1 }; }

  onCanvas({ x, y }) {
    const { width, height } = this.size();
    return [(x - this.middle.x) * this.scale + width / 2, (y - this.middle.y) * this.scale + height / 2];
  }

  nearest(x, y, within) {
    let best = null, least = within ** 2;
    for (const point of this.photos) {
      const [px, py] = this.onCanvas(point);
      const far = (px - x) ** 2 + (py - y) ** 2;
      if (far <= least) { least = far; best = point.photo; }
    }
    return best;
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.paint());
  }

  paint() {
    const { width, height } = this.size(), ratio = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
    if (this.canvas.height !== Math.round(height * ratio)) this.canvas.height = Math.round(height * ratio);
    const pen = this.canvas.getContext("2d"), style = getComputedStyle(this.canvas);
    const colour = (name) => style.getPropertyValue(`--${name}`);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const rough = this.land && this.scale < LAND_UNTIL;
    pen.fillStyle = colour(rough ? "sea" : "land");
    pen.fillRect(0, 0, width, height);
    if (this.tiles) this.paintTiles(pen, width, height);
    else if (rough) this.paintLand(pen, ratio, colour);
    this.paintDots(pen, width, height, colour);
    if (this.where) this.paintRadius(pen, colour);
    for (const mark of [...this.marks].reverse()) this.paintMark(pen, mark, colour);
    this.paintScale(pen, height, colour);
  }

  paintLand(pen, ratio, colour) {
    const [x, y] = this.onCanvas({ x: 0, y: 0 }), s = this.scale * ratio;
    pen.setTransform(s, 0, 0, s, x * ratio, y * ratio);
    pen.fillStyle = colour("land");
    pen.fill(this.land);
    pen.strokeStyle = colour("coast");
    pen.lineWidth = 1 / this.scale;
    pen.stroke(this.land);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  paintTiles(pen, width, height) {
    const depth = Math.max(0, Math.min(DEEPEST, Math.round(Math.log2(this.scale / TILE))));
    const count = 2 ** depth, side = this.scale / count;
    const [left, top] = this.onCanvas({ x: 0, y: 0 });
    for (let x = Math.max(0, Math.floor(-left / side)); x < count && left + x * side < width; x++) {
      for (let y = Math.max(0, Math.floor(-top / side)); y < count && top + y * side < height; y++) {
        const address = this.tiles.replace("{z}", depth).replace("{x}", x).replace("{y}", y);
        const tile = this.tile(address);
        if (tile.complete && tile.naturalWidth) pen.drawImage(tile, left + x * side, top + y * side, side + 0.5, side + 0.5);
      }
    }
  }

  tile(address) {
    if (!this.loaded.has(address)) {
      if (this.loaded.size > 400) this.loaded.clear();
      const image = new Image();
      image.onload = () => this.draw();
      image.src = address;
      this.loaded.set(address, image);
    }
    return this.loaded.get(address);
  }

  paintDots(pen, width, height, colour) {
    pen.fillStyle = colour("dot");
    const size = this.photos.length > 5000 ? 3 : 6;
    for (const point of this.photos) {
      const [x, y] = this.onCanvas(point);
      if (x < -size || y < -size || x > width + size || y > height + size) continue;
      if (size === 3) { pen.fillRect(x - 1.5, y - 1.5, 3, 3); continue; }
      pen.beginPath();
      pen.arc(x, y, size / 2, 0, 7);
      pen.fill();
    }
  }

  paintRadius(pen, colour) {
    const [x, y] = this.onCanvas(project(this.where)), pixels = this.scale / this.metresAcross();
    for (const radius of [this.where.radius_95, this.where.radius_68]) {
      pen.beginPath();
      pen.arc(x, y, radius * pixels, 0, 7);
      pen.fillStyle = colour("ring");
      pen.fill();
      pen.strokeStyle = colour("here");
      pen.lineWidth = 1;
      pen.stroke();
    }
    pen.beginPath();
    pen.moveTo(x - 8, y); pen.lineTo(x + 8, y); pen.moveTo(x, y - 8); pen.lineTo(x, y + 8);
    pen.lineWidth = 2;
    pen.stroke();
  }

  paintMark(pen, mark, colour) {
    const [x, y] = this.onCanvas(project(mark)), size = mark.on ? 12 : 9;
    pen.beginPath();
    pen.arc(x, y, size, 0, 7);
    pen.fillStyle = colour(mark.on ? "here" : "card");
    pen.fill();
    pen.strokeStyle = colour("here");
    pen.lineWidth = 1.5;
    pen.stroke();
    pen.fillStyle = colour(mark.on ? "card" : "ink");
    pen.font = `600 ${size}px system-ui, "DejaVu Sans", sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(mark.label, x, y + 0.5);
  }

  paintScale(pen, height, colour) {
    const most = 90 * this.metresAcross() / this.scale;
    const power = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].map((n) => n * power).find((n) => n <= most);
    const pixels = length / this.metresAcross() * this.scale;
    pen.strokeStyle = pen.fillStyle = colour("ink");
    pen.lineWidth = 2;
    pen.beginPath();
    pen.moveTo(12, height - 18); pen.lineTo(12, height - 12); pen.lineTo(12 + pixels, height - 12); pen.lineTo(12 + pixels, height - 18);
    pen.stroke();
    pen.font = '12px system-ui, "DejaVu Sans", sans-serif';
    pen.textAlign = "left";
    pen.textBaseline = "bottom";
    pen.fillText(length < 1 ? `${Math.round(length * 100)} cm` : metres(length), 16, height - 14);
  }

  move(dx, dy) {
    this.middle = { x: this.middle.x - dx / this.scale, y: Math.max(0, Math.min(1, this.middle.y - dy / this.scale)) };
    this.draw();
  }

  zoomAt(factor, x, y) {
    const { width, height } = this.size();
    this.move(width / 2 - x, height / 2 - y);
    this.zoomTo(this.scale * factor);
    this.move(x - width / 2, y - height / 2);
  }

  zoom(factor) {
    const { width, height } = this.size();
    this.zoomAt(factor, width / 2, height / 2);
  }

  listen() {
    const { canvas, pointers } = this;
    let moved = 0;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
      moved = pointers.size > 1 ? 99 : 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
      moved += Math.abs(dx) + Math.abs(dy);
      const other = [...pointers.values()].find((p) => p.pointerId !== event.pointerId);
      pointers.set(event.pointerId, event);
      if (other) {
        const apart = (p) => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY) || 1;
        this.zoom(apart(event) / apart(before));
      }
      this.move(dx / pointers.size, dy / pointers.size);
    });
    canvas.addEventListener("pointerup", (event) => {
      if (pointers.delete(event.pointerId) && moved < 6) this.pick(event.offsetX, event.offsetY, 22);
    });
    canvas.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomAt(Math.exp(-Math.max(-200, Math.min(200, event.deltaY)) / 300), event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const steps = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    const { width, height } = this.size();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (steps[event.key]) this.move(...steps[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key === "Enter") this.pick(width / 2, height / 2, Infinity);
    else return;
    event.preventDefault();
  }

  pick(x, y, within) {
    const photo = this.nearest(x, y, within);
    if (photo) this.onPick(photo);
  }
}
