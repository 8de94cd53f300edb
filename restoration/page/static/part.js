// The frame over a photograph's part: [left, top, right, bottom] in fractions of the picture's sides, as it stands upright.

const frames = new WeakMap(); // by their .part: { source, sides }
const LEAST = 0.05; // of a side
const STEP = 0.02, SIZE = 1.1; // of a key

const partAt = place => document.querySelector(`.part[data-place="${place}"]`);
const frameOf = part => frames.get(part) || frames.set(part, { source: '', sides: [0.25, 0.25, 0.75, 0.75] }).get(part);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** What the server is handed to take a part: the frame of a tab as JSON. */
export function framed(place, photo, size, priors) {
  const sides = frameOf(partAt(place)).sides.map(side => +side.toFixed(4));
  return [photo, size, JSON.stringify(sides), ...priors];
}

function draw(part) {
  const [left, top, right, bottom] = frameOf(part).sides, image = part.querySelector('img');
  const box = { left, top, width: right - left, height: bottom - top };
  for (const [name, value] of Object.entries(box)) part.querySelector('.frame').style[name] = `${100 * value}%`;
  const known = image.naturalWidth && !image.src.startsWith('data:'); // a stand-in has other pixels
  const sides = known ? [image.naturalWidth, image.naturalHeight] : [100, 100];
  const [width, height] = [box.width * sides[0], box.height * sides[1]].map(Math.round);
  part.querySelector('output').textContent = `${width} × ${height} ${known ? 'pixels' : 'percent'}`;
}

/** Follow the photograph of every tab; another photograph gets a frame anew. */
export function followParts() {
  for (const part of document.querySelectorAll('.part')) {
    const source = document.querySelector(`#photo-${part.dataset.place} img`)?.src || '', frame = frameOf(part);
    if (source === frame.source) continue;
    frames.delete(part);
    frameOf(part).source = source;
    if (source) part.querySelector('img').src = source;
    draw(part);
  }
}

function put(part, left, top, width, height) {
  width = clamp(width, LEAST, 1);
  height = clamp(height, LEAST, 1);
  left = clamp(left, 0, 1 - width);
  top = clamp(top, 0, 1 - height);
  frameOf(part).sides = [left, top, left + width, top + height];
  draw(part);
}

/** The frame moved by fractions of the sides, and so many times as large about its middle. */
function change(part, dx, dy, factor = 1) {
  const [left, top, right, bottom] = frameOf(part).sides;
  const width = clamp((right - left) * factor, LEAST, 1), height = clamp((bottom - top) * factor, LEAST, 1);
  put(part, (left + right - width) / 2 + dx, (top + bottom - height) / 2 + dy, width, height);
}

function place(event, sheet) {
  const box = sheet.getBoundingClientRect();
  return [clamp((event.clientX - box.left) / box.width, 0, 1), clamp((event.clientY - box.top) / box.height, 0, 1)];
}

let held = null; // the press that moves or draws a frame: { part, sheet, from, moved: the frame as it was, or null }

document.addEventListener('pointerdown', event => {
  const sheet = event.target.closest?.('.part .sheet');
  if (!sheet || !event.isPrimary || event.button) return;
  event.preventDefault();
  sheet.setPointerCapture(event.pointerId);
  const part = sheet.closest('.part'), inside = event.target.matches('.frame');
  held = { part, sheet, from: place(event, sheet), moved: inside && frameOf(part).sides };
  part.querySelector('.frame').focus({ preventScroll: true });
});

document.addEventListener('pointermove', event => {
  if (!held || !event.isPrimary) return;
  const { part, sheet, from, moved } = held, [x, y] = place(event, sheet);
  if (moved) put(part, moved[0] + x - from[0], moved[1] + y - from[1], moved[2] - moved[0], moved[3] - moved[1]);
  else put(part, Math.min(x, from[0]), Math.min(y, from[1]), Math.abs(x - from[0]), Math.abs(y - from[1]));
});

for (const name of ['pointerup', 'pointercancel']) document.addEventListener(name, () => { held = null; });

const KEYS = {
  ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP],
  '+': [0, 0, SIZE], '=': [0, 0, SIZE], '-': [0, 0, 1 / SIZE],
};

document.addEventListener('keydown', event => {
  const way = event.target.matches?.('.part .frame') && KEYS[event.key];
  if (!way || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  change(event.target.closest('.part'), ...way);
});

document.addEventListener('click', event => {
  const button = event.target.closest('.part button');
  if (button) change(button.closest('.part'), 0, 0, button.dataset.part === 'larger' ? SIZE : 1 / SIZE);
});

/** What was taken is brought into view: the fold below it closes, and the page with it. */
document.addEventListener('click', event => {
  const taken = event.target.closest('[id^="take-"], [id^="whole-"]');
  if (taken) document.getElementById(taken.id.replace(/^[a-z]+/, 'photo')).scrollIntoView({ block: 'nearest' });
});

document.addEventListener('load', event => {
  if (event.target.matches?.('.part img')) draw(event.target.closest('.part'));
}, true);
