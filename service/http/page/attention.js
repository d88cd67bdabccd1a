// Where an entity looked: a veil over the photo, clear where it looked most and dark where least.

const VEIL = [8, 12, 32];
const DARKEST = 0.8;

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
    const brightness = most > least ? (weight - least) / (most - least) : 1;
    image.data.set([...VEIL, 255 * DARKEST * (1 - brightness)], 4 * i);
  });
  return image;
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
