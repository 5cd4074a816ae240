// docs/how-to/export.md, in short

/** [key, title, what it is] */
export const FORMATS = [
  ["coco", "COCO", "One JSON file, read by pycocotools and nearly every tool."],
  ["coco-shards", "COCO, in pieces", "COCO with a file for every 10,000 images."],
  ["yolo", "YOLO segmentation", "Label files and data.yaml, for ultralytics. Scores are lost, masks become one polygon each."],
  ["label-studio", "Label Studio", "Tasks with predictions to import, and the project's labelling config."],
  ["cvat", "CVAT", "CVAT for images 1.1, a task for every 10,000 images."],
  ["voc", "Pascal VOC", "PNG masks and XML files; of overlapping masks the better one is seen."],
  ["fiftyone", "FiftyOne", "A FiftyOneDataset to load with from_dir."],
  ["hugging-face", "Hugging Face", "Parquet with features, for load_dataset."],
  ["parquet", "Parquet", "The result's own columns, with these thresholds applied."],
];

export const TITLES = new Map(FORMATS.map(([key, title]) => [key, title]));

/** Whether masks may be RLE or polygons in it. */
export const isGeometric = (format) => ["coco", "coco-shards", "label-studio"].includes(format);
