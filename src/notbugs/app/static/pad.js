const [channels, height, width] = props.shape;
const canvas = element.querySelector('canvas'), status = element.querySelector('.nb-status');
const brush = element.querySelector('input[type=range]');
const file = element.querySelector('input[type=file]'), screen = canvas.getContext('2d');
canvas.width = width; canvas.height = height;
canvas.setAttribute('aria-label', `The image, ${width} by ${height} pixels. ` +
  'Arrow keys move, space paints, backspace erases.');
let bytes = new Uint8Array(channels * height * width), x = 0, y = 0, drawing = false;
let painted = false;
const place = () => `Column ${x + 1}, row ${y + 1}: ${bytes[y * width + x]} of 255`;
function show() {
  const pixels = screen.createImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) {
      pixels.data[4 * i + c] = bytes[Math.min(c, channels - 1) * height * width + i];
    }
    pixels.data[4 * i + 3] = 255;
  }
  screen.putImageData(pixels, 0, 0);
  if (document.activeElement === canvas) {
    screen.fillStyle = bytes[y * width + x] > 127 ? '#c84e00' : '#ff8a4c';
    screen.globalAlpha = .6; screen.fillRect(x, y, 1, 1); screen.globalAlpha = 1;
  }
}
function read() {
  const text = String(props.value || '');
  if (text.length === 2 * bytes.length && /^[0-9a-f]*$/.test(text)) {
    bytes = Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16));
  }
  show();
}
function tell() {
  painted = false;
  props.value = Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
  trigger('input');
}
function paint(level) {
  for (let c = 0; c < channels; c++) bytes[(c * height + y) * width + x] = level;
  painted = true; show();
}
function point(event) {
  const box = canvas.getBoundingClientRect();
  x = Math.min(width - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * width)));
  y = Math.min(height - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * height)));
  paint(Number(brush.value));
}
canvas.addEventListener('pointerdown', (event) => {
  drawing = true; canvas.setPointerCapture(event.pointerId); point(event);
});
canvas.addEventListener('pointermove', (event) => { if (drawing) point(event); });
canvas.addEventListener('pointerup', () => { drawing = false; if (painted) tell(); });
canvas.addEventListener('focus', show);
canvas.addEventListener('blur', show);
canvas.addEventListener('keydown', (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const level = { ' ': Number(brush.value), Backspace: 0, Delete: 0 };
  if (event.key in step) {
    x = Math.min(width - 1, Math.max(0, x + step[event.key][0]));
    y = Math.min(height - 1, Math.max(0, y + step[event.key][1]));
    show();
  } else if (event.key in level) {
    paint(level[event.key]); tell();
  } else return;
  event.preventDefault(); status.textContent = place();
});
element.querySelector('button').addEventListener('click', () => {
  bytes.fill(0); show(); tell(); status.textContent = 'Cleared.';
});
file.addEventListener('change', () => {
  const chosen = file.files[0];
  if (!chosen) return;
  if (chosen.size > props.most) {
    status.textContent = `The file is larger than ${props.most / 2 ** 20} MiB. Make it smaller.`;
    return;
  }
  const reader = new FileReader();
  reader.addEventListener('load', () => {
    const data = String(reader.result).split(',')[1] || '';
    props.value = `upload:${chosen.name.replaceAll(':', '_')}:${data}`;
    trigger('upload');
  });
  reader.readAsDataURL(chosen);
});
watch('value', read);
read();
