// Two photos: their matched patches as lines and boxes, or one laid over the other.

const SVG = "http://www.w3.org/2000/svg";
const GAP = 14, NARROW = 560;

function shape(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function setSlider({ label, name, slider, value }, title, least, most, now, change) {
  label.hidden = false;
  name.textContent = title;
  Object.assign(slider, { min: least, max: most, step: 1, value: now });
  slider.oninput = () => { value.textContent = change(Number(slider.value)); };
  slider.oninput();
}

// pair: {lines, matrix, query_size, photo_size}. Two photos side by side, one below the other if narrow.
export function showMatches(box, controls, pair, sources, names) {
  const [width, height] = pair.query_size;
  const below = box.clientWidth < NARROW;
  const other = below
    ? { width, height: pair.photo_size[1] * width / pair.photo_size[0] }
    : { width: pair.photo_size[0] * height / pair.photo_size[1], height };
  const gap = GAP * width / Math.max(1, box.clientWidth / 2);
  const [left, top] = below ? [0, height + gap] : [width + gap, 0];
  const picture = shape("svg", { viewBox: `0 0 ${below ? width : left + other.width} ${below ? top + other.height : height}`, role: "img" });
  picture.setAttribute("aria-label", `${names[0]} and ${names[1]}, ${pair.lines.length} matched patches joined by lines`);
  picture.append(
    shape("image", { href: sources[0], x: 0, y: 0, width, height }),
    shape("image", { href: sources[1], x: left, y: top, ...other }),
  );
  const groups = pair.lines.map((line) => {
    const ends = [
      [line[0] * width, line[1] * height, line[2] * width, line[3] * height],
      [left + line[4] * other.width, top + line[5] * other.height, left + line[6] * other.width, top + line[7] * other.height],
    ];
    const stroke = `hsl(${Math.round(306 * (line[0] + line[2]) / 2)} 90% 60%)`;
    const boxes = ends.map(([x, y, x2, y2]) => shape("rect", { x, y, width: Math.max(1, x2 - x), height: Math.max(1, y2 - y), stroke }));
    const [from, to] = ends.map(([x, y, x2, y2]) => [(x + x2) / 2, (y + y2) / 2]);
    return shape("g", {}, ...boxes, shape("line", { x1: from[0], y1: from[1], x2: to[0], y2: to[1], stroke }));
  });
  picture.append(...groups);
  box.replaceChildren(picture);
  if (!groups.length) {
    controls.label.hidden = true;
    return;
  }
  setSlider(controls, "Lines", 0, groups.length, groups.length, (count) => {
    groups.forEach((group, at) => { group.style.display = at < count ? "" : "none"; });
    return `${count} of ${groups.length}`;
  });
}

// Your photo on the left of the edge, the photo of the index on the right, moved onto it.
export function showThen(box, controls, pair, sources, names) {
  if (!pair.matrix) {
    controls.label.hidden = true;
    box.replaceChildren(Object.assign(document.createElement("p"), { textContent: "Too few patches match to lay one photo over the other." }));
    return;
  }
  const image = (src, alt) => Object.assign(new Image(), { src, alt });
  const part = (className, textContent = "") => Object.assign(document.createElement("div"), { className, textContent });
  const [mine, other] = [image(sources[0], `Your photo: ${names[0]}`), image(sources[1], `Place: ${names[1]}`)];
  const [over, edge] = [part("over"), part("edge")];
  over.append(other);
  box.replaceChildren(mine, over, edge, part("tag now", "Your photo"), part("tag past", "Place"));
  const place = () => {
    const scale = box.clientWidth / pair.query_size[0], [a, b, c, d, e, f] = pair.matrix;
    other.style.width = `${pair.photo_size[0] * scale}px`;
    other.style.transform = `matrix(${a}, ${b}, ${c}, ${d}, ${e * scale}, ${f * scale})`;
  };
  new ResizeObserver(place).observe(box);
  place();
  setSlider(controls, "Your photo", 0, 100, 50, (share) => {
    over.style.clipPath = `inset(0 0 0 ${share}%)`;
    edge.style.left = `${share}%`;
    return `${share} %`;
  });
}
