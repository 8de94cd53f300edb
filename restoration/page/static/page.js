// What the page does in the browser: the history, the zoom of pictures side by side, the press of a button from a link.
// Everything drawn from data goes through `escaped`. The history never gets to the server, whose values a deep link
// would hand to others: a run's entry comes once, and only the one that is clicked goes back.

const HISTORY = 12; // runs that are kept; a browser gives a site about 5 MB
const NO_LINK = 'Only a clean example picture, degraded here, fits into a settings link; ' +
  'share your own picture with the link at the foot of the page.';
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
    `<img alt="${escaped(run.title)}" src="${escaped(run.pictures[1])}">${escaped(run.title)}</button>`);
  return `<div class="past">${buttons.join('') || 'Your results will be kept here.'}</div>`;
}

/** The finished run into the history; [its address for the link's box, the history as HTML]. */
export function keepRun(text) {
  const entry = JSON.parse(text);
  if (entry.pictures.length) keep(entry);
  return [entry.link ? location.origin + location.pathname + entry.link : NO_LINK, showRuns(entry.method)];
}

export function pickedRun() {
  return picked;
}

/** The two files of the slider once more: the server neither sends nor keeps anything for it. */
export function sideBySide(pair) {
  if (!pair || !pair[1]) return '';
  const figures = ['Before', 'After'].map((title, k) =>
    `<figure><figcaption>${title}</figcaption><div><img alt="${title}" src="${escaped(pair[k].url)}"></div></figure>`);
  return '<div class="zoom" tabindex="0" role="group" aria-label="Before and after; plus and minus zoom">' +
    `${figures.join('')}</div>`;
}

/** Press a button; a tab's parts are there only some time after it is chosen. */
function press(id, tries = 100) {
  const button = document.getElementById(id);
  if (button) button.click(); else if (tries) setTimeout(press, 100, id, tries - 1);
}

export function pressIf(wanted, id) {
  if (wanted) press(id);
}

function zoom(grid, factor) {
  const now = parseFloat(grid.style.getPropertyValue('--zoom') || 1);
  grid.style.setProperty('--zoom', Math.min(16, Math.max(1, now * factor)));
}

const hovered = event => event.target.tagName === 'IMG' && event.target.closest('.zoom');

document.addEventListener('wheel', event => {
  const grid = hovered(event);
  if (grid) { event.preventDefault(); zoom(grid, event.deltaY < 0 ? 1.25 : 0.8); }
}, { passive: false });

document.addEventListener('mousemove', event => {
  const grid = hovered(event);
  if (!grid) return;
  const box = event.target.parentElement.getBoundingClientRect();
  grid.style.setProperty('--x', 100 * (event.clientX - box.left) / box.width + '%');
  grid.style.setProperty('--y', 100 * (event.clientY - box.top) / box.height + '%');
});

document.addEventListener('keydown', event => {
  const grid = document.activeElement && document.activeElement.closest('.zoom');
  if (grid && (event.key === '+' || event.key === '-')) zoom(grid, event.key === '+' ? 1.25 : 0.8);
});

document.addEventListener('click', event => {
  const button = event.target.closest('.past button');
  if (!button) return;
  picked = JSON.stringify(pastRuns()[button.dataset.run]);
  press('bring-back-' + button.dataset.method);
});
