// Where an entity looked: a veil over the photo, yellow where it looked most and dark where least. Two colors, because
// neither shows on every photo.

const DARK = [8, 12, 32, 0.7]; // as in page.css
const YELLOW = [255, 209, 64, 0.5];

/** Draw the weights of a grid of regions; the model sees the whole photo, so the grid spans all of it. */
export function drawVeil(canvas, regions, { smooth }) {
  const small = document.createElement("canvas");
  small.height = regions.length;
  small.width = regions[0].length;
  small.getContext("2d").putImageData(veil(regions), 0, 0);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = smooth;
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

function veil(regions) {
  const weights = regions.flat();
  const { least, most } = extremes(regions);
  const image = new ImageData(regions[0].length, regions.length);
  weights.forEach((weight, i) => {
    image.data.set(mixed(most > least ? (weight - least) / (most - least) : 1), 4 * i);
  });
  return image;
}

// a color between both, which counts by its opacity, as browsers mix the colors of a gradient
function mixed(share) {
  const [dark, yellow] = [(1 - share) * DARK[3], share * YELLOW[3]];
  const mix = (i) => (DARK[i] * dark + YELLOW[i] * yellow) / (dark + yellow);
  return [mix(0), mix(1), mix(2), 255 * (dark + yellow)];
}

export function extremes(regions) {
  const weights = regions.flat();
  return { least: Math.min(...weights), most: Math.max(...weights) };
}

/** The same in a sentence, for those who do not see it. */
export function description(word, regions) {
  const { most } = extremes(regions);
  const row = regions.findIndex((weights) => weights.includes(most));
  const column = regions[row].indexOf(most);
  const size = `${regions.length} by ${regions[0].length}`;
  return `Of ${size} regions, ${word} looked most at row ${row + 1}, column ${column + 1}: ${percent(most)}`;
}

export function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}
