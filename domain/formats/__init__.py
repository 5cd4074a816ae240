"""The formats of exports, one module for each tool that reads them."""

from domain.exports import ExportFormat, Writers
from domain.formats.coco import write_coco, write_coco_shards
from domain.formats.cvat import write_cvat
from domain.formats.fiftyone import write_fiftyone
from domain.formats.hugging_face import write_hugging_face
from domain.formats.label_studio import write_label_studio
from domain.formats.parquet import write_parquet
from domain.formats.voc import write_voc
from domain.formats.yolo import write_yolo

WRITERS: Writers = {
    ExportFormat.COCO: write_coco,
    ExportFormat.COCO_SHARDS: write_coco_shards,
    ExportFormat.PARQUET: write_parquet,
    ExportFormat.HUGGING_FACE: write_hugging_face,
    ExportFormat.FIFTYONE: write_fiftyone,
    ExportFormat.YOLO: write_yolo,
    ExportFormat.LABEL_STUDIO: write_label_studio,
    ExportFormat.CVAT: write_cvat,
    ExportFormat.VOC: write_voc,
}
