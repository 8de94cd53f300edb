// What the page does in the browser: the history, the zoom of pictures side by side, the press of a button from a link.
// Everything drawn from data goes through `escaped`. The history never gets to the server, whose values a deep link
// would hand to others: a run's entry comes once, and only the one that is clicked goes back.

import { followPhotographs } from './draw.js';
import { followParts } from './part.js';
import { nameSliders } from './slider.js';
export { askForMask, drawnMask, forgetDrawing, maskArrived } from './draw.js';
export { framed } from './part.js';

const HISTORY = 12; // runs that are kept; a browser gives a site about 5 MB
const NO_LINK = 'Only a clean example picture, degraded here, fits into a settings link; ' +
  '"Share" keeps any other.';
const NOT_KEPT = 'Too many pictures for a link or the history: download them.';
let picked = ''; // the run of the history that was clicked, as JSON

function escaped(text) {
  return new Option(String(text)).innerHTML.replaceAll('"', '&quot;').replaceAll("'", '&#39;');
}

function pastRuns() {
  try { return JSON.parse(localStorage.getItem('runs')) || []; } catch { return []; }
}

function keep(entry) {
  const runs = [entry, ...pastRuns()].slice(0, HISTORY);
  while (runs.length) {
    try { localStorage.setItem('runs', JSON.stringify(runs)); return; } catch { runs.pop(); } // the space is used up
  }
}

export function showRuns(method) {
  const buttons = pastRuns().map((run, k) => run.method !== method ? '' :
    `<button data-method="${escaped(method)}" data-run="${k}">` +
    `<img alt="" src="${escaped(run.pictures[run.best ?? 1])}">${escaped(run.title)}</button>`);
  return `<div class="past">${buttons.join('') || 'Your results will be kept here.'}</div>`;
}

/** The finished run, "" where it is too large to be kept, into the history; [its address for the link's box, the history as HTML]. */
export function keepRun(text) {
  if (!text) return [NOT_KEPT, { __type__: 'update' }];
  const entry = JSON.parse(text);
  keep(entry);
  return [entry.link ? location.origin + location.pathname + entry.link : NO_LINK, showRuns(entry.method)];
}

/** Queries of a share's two links -> [link, delete link, what is said]; the link goes to the clipboard. */
export async function copyLink(query, remover) {
  const base = location.origin + location.pathname, address = base + query.slice(query.indexOf('?'));
  let copied = true;
  try { await navigator.clipboard.writeText(address); } catch { copied = copyOld(address); } // http has no clipboard
  return [address, base + remover.slice(remover.indexOf('?')), copied ? '<b>Copied.</b> Whoever opens the link sees ' +
    'this and your photograph at once.' : 'Copy the link below: this browser does not let the page do it.'];
}

function copyOld(text) {
  const box = document.body.appendChild(document.createElement('textarea'));
  box.value = text;
  box.select();
  try { return document.execCommand('copy'); } finally { box.remove(); }
}

/** A result that is there again is brought into view once more: what stood above it may have gone. */
export function seeRun(method) {
  seeStatus(document.getElementById('status-' + method));
}

export function pickedRun() {
  return picked;
}

/** [the two files of the slider once more, the second as a download], nothing before there is a result: the server
 * neither sends nor keeps anything for it. */
export function sideBySide(pair) {
  if (!pair || !pair[1] || pair[0].url === pair[1].url) return ['', ''];
  const figures = ['Before', 'After'].map((title, k) =>
    `<figure><figcaption>${title}</figcaption><div><img alt="${title}" src="${escaped(pair[k].url)}" draggable="false"` +
    `${k ? '' : ' data-input'}></div></figure>`);
  const link = `<a href="${escaped(pair[1].url)}" download="restored.png">Download the picture alone</a>`;
  return ['<div class="zoom" tabindex="0" role="group" aria-label="Before and after; plus and minus zoom">' +
    `${figures.join('')}</div>`, `${link}, without its recipe and without your photograph`];
}

/** Of the sentences about scores those that a table shows. */
export function explained(table, sentences) {
  const shown = [...(table?.headers ?? []), ...(table?.data ?? []).map(row => row[0])].join(' ');
  return Object.entries(sentences).filter(([name]) => shown.includes(name)).map(([, words]) => words).join(' ');
}

/* What Gradio's components leave out for screen readers: the lines that tell how a run goes are read out, what is empty is
   a picture of that, a picture beside its own name has none, and a button holds no other. */
const MENDED = { '[id^="status-"]': ['role', 'status'], '.notice': ['role', 'status'],
  '[aria-label="Empty value"]': ['role', 'img'], 'footer img': ['alt', ''],
  '.thumbnail-item img': ['alt', ''], '.toast-header': ['role', 'group'],
  '.cm-scroller': ['tabindex', '0'] };
const CHOOSE = 'Choose a photograph';
function mend() {
  for (const [selector, [name, value]] of Object.entries(MENDED)) {
    for (const element of document.querySelectorAll(selector)) {
      if (element.getAttribute(name) !== value) element.setAttribute(name, value);
    }
  }
  // Gradio leaves a button out on a phone, and not the dot behind it; page.css does not reach the footer
  document.querySelectorAll('footer .divider').forEach(dot => { dot.hidden = innerWidth <= 640; });
  document.querySelectorAll('[id^="photo-"] [data-testid="source-select"] button:first-child').forEach(button => {
    if (button.ariaLabel !== CHOOSE) button.ariaLabel = CHOOSE;
  });
  followPhotographs();
  followParts();
  followTab();
  nameSliders();
  showShared();
  document.querySelectorAll('[id^="photo-"] img').forEach(standIn);
}

let tabShown; // the tab that was chosen last

/** On a phone the tabs are one row: the chosen one is brought into it. */
function followTab() {
  const tab = document.querySelector('.tab-container:not(.visually-hidden) [role="tab"][aria-selected="true"]');
  if (!tab || tab === tabShown) return;
  tabShown = tab;
  const row = tab.parentElement;
  row.scrollLeft += tab.getBoundingClientRect().left - row.getBoundingClientRect().left - 16;
}

// Gradio's own press takes the picture away that is there, and opens nothing
document.addEventListener('click', event => {
  const button = event.target.closest(`[data-testid="source-select"] [aria-label="${CHOOSE}"]`);
  if (!button) return;
  event.stopPropagation();
  button.closest('.block').querySelector('input[type="file"]').click();
}, true);

/** A photograph that this browser cannot draw, as a phone's HEIC, is stood for by a small picture of the server's. */
function standIn(image) {
  const standing = image.src.startsWith('data:'); // perhaps for the photograph before
  if (!image.complete || !image.src || (image.naturalWidth && !standing)) return;
  const method = image.closest('[id^="photo-"]').id.slice('photo-'.length);
  const preview = document.querySelector(`#seen-${method} [data-preview]`)?.dataset.preview;
  if (preview && image.src !== preview) image.src = preview;
}

document.addEventListener('error', event => {
  if (event.target.matches?.('[id^="photo-"] img')) standIn(event.target);
}, true);

addEventListener('resize', () => { tabShown = null; followTab(); });

function seeStatus(element) {
  const status = element.closest('[role="tabpanel"]').querySelector('.status');
  status.scrollIntoView({ block: innerWidth < 720 ? 'start' : 'nearest' });
}

let shared = new URLSearchParams(location.search).has('share');

/** The result that a link opens, or that it is gone, is brought into view: on a phone it would be below. */
function showShared() {
  const told = shared && [...document.querySelectorAll('.notice, .gone')].find(
    element => element.offsetParent && element.innerText.trim());
  if (!told) return;
  shared = false;
  seeStatus(told);
}

mend();
new MutationObserver(mend)
  .observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ['src', 'alt', 'aria-selected'] });

/** Press a button; a tab's parts are there only some time after it is chosen. */
function press(id, tries = 100) {
  const button = document.getElementById(id);
  if (button) button.click(); else if (tries) setTimeout(press, 100, id, tries - 1);
}

export function pressIf(wanted, id) {
  if (wanted) press(id);
}

const LATE = '⚠ A part of the page has not opened. Your photograph is looked at all the same; if something is ' +
  'missing, or an example takes its place, reload the page and choose it again.';
const opened = new Set(); // tabs that show what they open with

/** A tab shows what it opens with, which a link's run may follow. */
export function tabOpened(wanted, place) {
  opened.add(place);
  pressIf(wanted, 'start-' + place);
}

/** The values of an upload, once what so many tabs open with has arrived: it would take the photograph's place.
 * A tab that does not open for half a minute is waited for no longer. */
export async function onceOpened(tabs, values, tries = 600) {
  while (opened.size < tabs && tries--) await new Promise(done => setTimeout(done, 50));
  if (opened.size < tabs && !document.querySelector('.late')) {
    document.querySelector('.intro').insertAdjacentHTML('beforeend', `<p class="late" role="alert">${LATE}</p>`);
  }
  return values;
}

/* Pictures side by side. A grid's view is { zoom, x, y }: a point at the fraction u of a picture is drawn at x + u·zoom of
   its frame, so that frames of any size show the same part. */

const views = new WeakMap();
const fingers = new Map(); // pointers that are down on a grid, by id
const MOST = 32;

const gridOf = target => target.closest && target.closest('.zoom');
const framesOf = grid => [...grid.querySelectorAll('figure > div')];
const viewOf = grid => views.get(grid) || { zoom: 1, x: 0, y: 0 };
const within = (place, zoom) => zoom < 1 ? (1 - zoom) / 2 : Math.min(0, Math.max(1 - zoom, place));

function show(grid, zoom, x, y) {
  const view = { zoom, x: within(x, zoom), y: within(y, zoom) };
  views.set(grid, view);
  for (const [name, value] of [['--zoom', zoom], ['--x', 100 * view.x + '%'], ['--y', 100 * view.y + '%']]) {
    grid.style.setProperty(name, value);
  }
  grid.classList.toggle('moved', zoom > 1);
  grid.classList.toggle('pixels', zoom > 2 * trueSize(grid));
}

/** Zoom by a factor, with the point at the fractions (u, v) of a frame kept in its place. */
function zoomAt(grid, factor, u = 0.5, v = 0.5) {
  const { zoom, x, y } = viewOf(grid);
  const next = Math.min(MOST, Math.max(Math.min(1, trueSize(grid)), zoom * factor));
  show(grid, next, u - (u - x) / zoom * next, v - (v - y) / zoom * next);
}

/** The zoom at which a pixel of a picture is a pixel of the screen. */
function trueSize(grid) {
  const image = grid.querySelector('img');
  return image && image.naturalWidth ? image.naturalWidth / (image.parentElement.clientWidth * devicePixelRatio) : 1;
}

function showInput(grid, wanted) {
  const input = grid.querySelector('img[data-input]');
  if (!input) return;
  for (const image of grid.querySelectorAll('img:not([data-input])')) {
    if (wanted) image.dataset.own ||= image.src;
    if (image.dataset.own) image.src = wanted ? input.src : image.dataset.own;
    if (!wanted) delete image.dataset.own;
  }
}

/** [u, v] of an event in the frame under it. */
function place(event, grid) {
  const box = (event.target.closest('figure > div') || framesOf(grid)[0]).getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

document.addEventListener('wheel', event => {
  const grid = event.target.tagName === 'IMG' && gridOf(event.target);
  if (grid) { event.preventDefault(); zoomAt(grid, event.deltaY < 0 ? 1.25 : 0.8, ...place(event, grid)); }
}, { passive: false });

document.addEventListener('pointerdown', event => {
  const tool = event.target.closest('.tools button'), grid = gridOf(event.target);
  if (tool && tool.dataset.tool === 'input') showInput(tool.parentElement.nextElementSibling, true);
  if (grid && event.target.tagName === 'IMG') {
    fingers.set(event.pointerId, { grid, at: place(event, grid), client: [event.clientX, event.clientY] });
  }
});

document.addEventListener('pointermove', event => {
  const finger = fingers.get(event.pointerId);
  if (!finger) return;
  const { grid, at, client } = finger, box = framesOf(grid)[0].getBoundingClientRect();
  // a frame's own fractions change as the pointer leaves it: what counts is the way
  const now = [at[0] + (event.clientX - client[0]) / box.width, at[1] + (event.clientY - client[1]) / box.height];
  const other = [...fingers.values()].find(one => one !== finger && one.grid === grid);
  if (other) {
    const way = point => Math.hypot(point[0] - other.at[0], point[1] - other.at[1]) || 1e-3;
    zoomAt(grid, way(now) / way(at), (now[0] + other.at[0]) / 2, (now[1] + other.at[1]) / 2);
  } else {
    const { zoom, x, y } = viewOf(grid);
    show(grid, zoom, x + now[0] - at[0], y + now[1] - at[1]);
  }
  Object.assign(finger, { at: now, client: [event.clientX, event.clientY] });
});

for (const name of ['pointerup', 'pointercancel']) {
  document.addEventListener(name, event => {
    fingers.delete(event.pointerId);
    document.querySelectorAll('.zoom').forEach(grid => showInput(grid, false));
  });
}

const ACTIONS = {
  in: grid => zoomAt(grid, 1.25), out: grid => zoomAt(grid, 0.8), fit: grid => show(grid, 1, 0, 0),
  pixels: grid => zoomAt(grid, trueSize(grid) / viewOf(grid).zoom), input: grid => showInput(grid, true),
};
const STEP = 0.1; // of a frame, for an arrow
const pan = (dx, dy) => grid => { const { zoom, x, y } = viewOf(grid); show(grid, zoom, x + dx, y + dy); };
const KEYS = {
  '+': ACTIONS.in, '=': ACTIONS.in, '-': ACTIONS.out, 0: ACTIONS.fit, 1: ACTIONS.pixels, i: ACTIONS.input,
  ArrowLeft: pan(STEP, 0), ArrowRight: pan(-STEP, 0), ArrowUp: pan(0, STEP), ArrowDown: pan(0, -STEP),
};

document.addEventListener('keydown', event => {
  const grid = gridOf(document.activeElement), action = KEYS[event.key];
  if (!grid || !action || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  action(grid);
});

document.addEventListener('keyup', event => {
  const grid = event.key === 'i' && gridOf(document.activeElement);
  if (grid) showInput(grid, false);
});

document.addEventListener('click', event => {
  const tool = event.target.closest('.tools button');
  if (tool && tool.dataset.tool !== 'input') ACTIONS[tool.dataset.tool](tool.parentElement.nextElementSibling);
});

document.addEventListener('click', event => {
  const button = event.target.closest('.past button');
  if (!button) return;
  picked = JSON.stringify(pastRuns()[button.dataset.run]);
  seeStatus(button);
  press('bring-back-' + button.dataset.method);
});
