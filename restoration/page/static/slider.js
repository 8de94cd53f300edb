// The divider between before and after by keyboard, with a name and a value for screen readers: Gradio's moves by the mouse
// alone, so that a key becomes a press of the mouse where the divider is to go.

const STEP = 5, LEAP = 20; // percent of the picture's width
const LABEL = 'Divider between before, on its left, and after, on its right';
const sliderOf = target => target.closest?.('[data-testid="slider"]');

/** [left and width of the picture on the screen, within its frame; percent of it that shows what was before]. */
function placeOf(slider) {
  const image = slider.parentElement.querySelector('img'), frame = image.getBoundingClientRect();
  const width = Math.min(frame.width, frame.height * image.naturalWidth / image.naturalHeight || frame.width);
  const picture = { left: frame.left + (frame.width - width) / 2, width };
  const at = slider.getBoundingClientRect(), middle = at.left + at.width / 2;
  return [picture, Math.round(Math.min(100, Math.max(0, (middle - picture.left) / picture.width * 100))) || 0];
}

function say(slider) {
  const value = String(placeOf(slider)[1]);
  slider.setAttribute('aria-valuenow', value);
  slider.setAttribute('aria-valuetext', `${value} percent before, the rest after`);
}

/** Give every divider a role, a name and a value, and its two pictures their names. */
export function nameSliders() {
  for (const slider of document.querySelectorAll('[data-testid="slider"]')) {
    if (slider.getAttribute('role') !== 'slider') {
      const told = { role: 'slider', tabindex: '0', 'aria-label': LABEL, 'aria-valuemin': '0', 'aria-valuemax': '100' };
      Object.entries(told).forEach(([name, value]) => slider.setAttribute(name, value));
      say(slider);
    }
    slider.parentElement.querySelectorAll('img').forEach((image, k) => {
      const name = ['The picture before', 'The picture after'][k];
      if (image.alt !== name) image.alt = name;
    });
  }
}

function move(slider, percent) {
  const [{ left, width }] = placeOf(slider), clientX = left + Math.min(100, Math.max(0, percent)) / 100 * width;
  const at = { clientX, clientY: 0, view: window, bubbles: true, cancelable: true };
  slider.dispatchEvent(new MouseEvent('mousedown', at));
  window.dispatchEvent(new MouseEvent('mouseup', at));
  requestAnimationFrame(() => say(slider));
}

const WAYS = { ArrowLeft: -STEP, ArrowDown: -STEP, ArrowRight: STEP, ArrowUp: STEP, PageDown: -LEAP, PageUp: LEAP,
  Home: -100, End: 100 };

document.addEventListener('keydown', event => {
  const slider = sliderOf(event.target), way = WAYS[event.key];
  if (!slider || !way || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  move(slider, placeOf(slider)[1] + way);
});
document.addEventListener('load', event => { // of the picture, whose place tells the divider's
  const slider = event.target.closest?.('.slider-wrap')?.querySelector('[data-testid="slider"]');
  if (slider) requestAnimationFrame(() => say(slider));
}, true);
document.addEventListener('pointerup', () => document.querySelectorAll('[data-testid="slider"]').forEach(say));
