// A mask that is painted over the photograph. A drawing is strokes, { width, points: [[x, y], …] }, in fractions of the
// picture's width; it is drawn for the eye, and once more, black on white and pixel by pixel, into the PNG that goes to the
// server as any mask that is uploaded.

const MOST = 4_000_000; // pixels of a mask; a larger photograph is reduced, and its mask with it
const drawings = new WeakMap(); // { strokes, source } by their .draw
let going = false; // a mask is on its way to the server
let held = null; // the button that was pressed meanwhile

const drawOf = method => document.querySelector(`.draw[data-method="${method}"]`);
const drawingOf = draw => drawings.get(draw) || drawings.set(draw, { strokes: [], source: '' }).get(draw);

/** The address of the picture to paint on: the photograph, or what the server shows of it where a browser cannot. */
function sourceFor(method) {
  const photo = document.querySelector(`#photo-${method} img`);
  if (!photo) return '';
  const whole = !photo.complete || photo.naturalWidth;
  if (whole && !photo.src.startsWith('data:')) return photo.src;
  return document.querySelector(`#comparison-${method} img`)?.src || '';
}

/** [width, height] of the mask: those of the photograph as the server has read it, where it has told. */
function sizeFor(draw) {
  const told = document.querySelector(`#seen-${draw.dataset.method} [data-width]`);
  if (told) return [+told.dataset.width, +told.dataset.height];
  const { naturalWidth: width, naturalHeight: height } = draw.querySelector('img');
  const shrink = Math.min(1, Math.sqrt(MOST / (width * height)));
  return [Math.round(shrink * width), Math.round(shrink * height)];
}

function paint(canvas, strokes, colour) {
  const pen = canvas.getContext('2d');
  Object.assign(pen, { strokeStyle: colour, lineCap: 'round', lineJoin: 'round' });
  for (const { width, points } of strokes) {
    pen.lineWidth = width * canvas.width;
    pen.beginPath();
    points.forEach(([x, y]) => pen.lineTo(x * canvas.width, y * canvas.width));
    if (points.length === 1) pen.lineTo(points[0][0] * canvas.width + 0.01, points[0][1] * canvas.width); // a dot
    pen.stroke();
  }
}

function redraw(draw) {
  const canvas = draw.querySelector('canvas'), image = draw.querySelector('img'), { strokes } = drawingOf(draw);
  draw.style.setProperty('--ratio', image.naturalWidth / image.naturalHeight || 1);
  canvas.width = canvas.clientWidth * devicePixelRatio; // empties it too
  canvas.height = canvas.clientHeight * devicePixelRatio;
  paint(canvas, strokes, '#e0004d');
  draw.querySelectorAll('button').forEach(button => { button.disabled = !strokes.length; });
}

/** Follow the photograph of every tab; another photograph is painted on anew. */
export function followPhotographs() {
  for (const draw of document.querySelectorAll('.draw')) {
    const source = sourceFor(draw.dataset.method), drawing = drawingOf(draw);
    if (source === drawing.source && draw.dataset.ready) continue;
    Object.assign(drawing, { source, strokes: [] });
    ask(draw, '');
    draw.dataset.ready = 'yes';
    const image = draw.querySelector('img');
    if (source) image.src = source; else image.removeAttribute('src');
    draw.classList.toggle('empty', !source);
    redraw(draw);
  }
}

/** The mask as a file among the uploads, as Gradio's components name one; null where nothing is painted. */
export async function drawnMask(method) {
  const draw = drawOf(method), { strokes } = drawingOf(draw);
  if (!strokes.length) return null;
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = sizeFor(draw);
  const pen = canvas.getContext('2d');
  pen.fillStyle = '#fff';
  pen.fillRect(0, 0, canvas.width, canvas.height);
  paint(canvas, strokes, '#000');
  const file = await new Promise(done => canvas.toBlob(done, 'image/png')), body = new FormData();
  body.append('files', file, 'mask.png');
  try {
    const answer = await fetch(new URL('gradio_api/upload', document.baseURI), { method: 'POST', body });
    const [path] = await answer.json(), url = new URL(`gradio_api/file=${path}`, document.baseURI).href;
    const meta = { _type: 'gradio.FileData' };
    return { path, url, orig_name: 'mask.png', size: file.size, mime_type: file.type, meta };
  } catch { return null; } // the run then asks for a mask
}

/** The mask has arrived: what was pressed meanwhile is pressed now. */
export function maskArrived() {
  going = false;
  const button = held;
  held = null;
  button?.click();
}

/** A mask was uploaded, or taken away: it is not the painted one any more. */
export function forgetDrawing(method) {
  const draw = drawOf(method);
  if (!draw) return;
  drawingOf(draw).strokes = [];
  ask(draw, '');
  redraw(draw);
}

function ask(draw, words) {
  draw.querySelector('.asked').textContent = words;
}

/** A run has failed: what is said of its mask is said beside the place to paint too, which is far from the button on a phone. */
export async function askForMask(method) {
  const draw = drawOf(method), status = document.getElementById('status-' + method);
  if (!draw.checkVisibility()) return;
  for (let tries = 100; tries && !status.innerText.includes('mask'); tries--) { // the error may not be drawn yet
    await new Promise(done => setTimeout(done, 50));
  }
  if (!status.innerText.includes('mask')) return; // it failed for another reason
  ask(draw, '⚠ ' + status.innerText.trim());
  draw.scrollIntoView({ block: innerWidth < 720 ? 'start' : 'nearest', behavior: 'smooth' });
}

function send(draw) {
  ask(draw, '');
  redraw(draw);
  going = true;
  document.getElementById(`drawn-${draw.dataset.method}`).click();
}

/** [x, y] of an event in fractions of the picture's width. */
function place(event, canvas) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.width];
}

const canvasOf = event => event.target.matches?.('.draw canvas') && event.isPrimary && event.target;

document.addEventListener('pointerdown', event => {
  const canvas = canvasOf(event), draw = canvas && canvas.closest('.draw');
  if (!canvas || event.button || draw.classList.contains('empty')) return;
  canvas.setPointerCapture(event.pointerId);
  canvas.dataset.down = 'yes';
  const width = draw.querySelector('input').value / 100;
  drawingOf(draw).strokes.push({ width, points: [place(event, canvas)] });
  redraw(draw);
});

document.addEventListener('pointermove', event => {
  const canvas = canvasOf(event);
  if (!canvas || !canvas.dataset.down) return;
  const draw = canvas.closest('.draw'), { points } = drawingOf(draw).strokes.at(-1);
  const moves = event.getCoalescedEvents?.() ?? [];
  points.push(...(moves.length ? moves : [event]).map(move => place(move, canvas)));
  redraw(draw);
});

for (const name of ['pointerup', 'pointercancel']) {
  document.addEventListener(name, event => {
    const canvas = canvasOf(event);
    if (!canvas || !canvas.dataset.down) return;
    delete canvas.dataset.down;
    send(canvas.closest('.draw'));
  });
}

document.addEventListener('click', event => {
  const button = event.target.closest('.draw button'), start = event.target.closest('[id^="start-"]');
  if (button) {
    const draw = button.closest('.draw'), { strokes } = drawingOf(draw);
    strokes.splice(button.dataset.draw === 'undo' ? -1 : 0);
    send(draw);
  } else if (start && going) { // it would run without the mask
    event.stopImmediatePropagation();
    held = start;
  }
}, true);

addEventListener('resize', () => document.querySelectorAll('.draw').forEach(redraw));
document.addEventListener('load', event => {
  if (event.target.matches?.('.draw img')) redraw(event.target.closest('.draw'));
}, true);
document.addEventListener('error', followPhotographs, true); // of a photograph that this browser cannot show
