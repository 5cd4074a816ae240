// The routes of single images, docs/reference/single-images.md, and their answers as annotations.
import { Problem, post } from "../../lib/api.js";
import { runLengths } from "../../lib/rle.js";

export const LEAST_SCORE = 0.1; // asked for; what is shown of it is the slider's matter

/** {id, file, url, width, height}, once the service has looked at it. */
export async function openImage(file) {
  const id = crypto.randomUUID();
  const url = URL.createObjectURL(file);
  try {
    const { naturalWidth: width, naturalHeight: height } = await loaded(url);
    await post("/sam3/embed_image", { image: await encoded(file), image_id: id });
    return { id, file, url, width, height };
  } catch (error) {
    URL.revokeObjectURL(url);
    throw error;
  }
}

/** All instances of each concept {text, boxes, box_labels}, as annotations. */
export async function findConcepts(image, prompts, signal) {
  const answer = await ask("/sam3/concept_segment", image, { prompts, output_prob_thresh: LEAST_SCORE, format: "rle" }, signal);
  const found = answer.prompt_results.flatMap(({ prompt_index: index, predictions }) => predictions.map((one) => ({ index, one })));
  return { annotations: found.map(({ index, one }, at) => annotationOf(one, index, at)), seconds: answer.time };
}

/** A mask for each object, a list of {x, y, positive}. */
export async function cutOut(image, objects, signal) {
  const prompts = objects.map((points) => ({ points }));
  const answer = await ask("/sam3/visual_segment", image, { prompts, format: "rle" }, signal);
  return { annotations: answer.predictions.map((one, at) => annotationOf(one, at, at)), seconds: answer.time };
}

/** By its name, or with the image where the service has forgotten it. */
async function ask(path, image, body, signal) {
  try {
    return await post(path, { ...body, image_id: image.id }, { signal });
  } catch (error) {
    if (!(error instanceof Problem && error.status === 404)) throw error;
    return post(path, { ...body, image_id: image.id, image: await encoded(image.file) }, { signal });
  }
}

function annotationOf({ masks, confidence }, category, at) {
  const lengths = runLengths(masks.counts);
  const area = lengths.reduce((sum, length, place) => sum + (place % 2 ? length : 0), 0);
  return { instance: at, category_id: category + 1, score: confidence, area, segmentation: masks };
}

function loaded(url) {
  const image = new Image();
  image.src = url;
  return image.decode().then(() => image, () => {
    throw new Error("This browser cannot show the file: choose a JPEG, PNG, WebP, AVIF or GIF.");
  });
}

function encoded(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    const value = () => reader.result.slice(reader.result.indexOf(",") + 1);
    reader.addEventListener("load", () => resolve({ type: "base64", value: value() }));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}
