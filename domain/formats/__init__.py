"""The formats of exports, one module for each tool that reads them."""

from domain.exports import ExportFormat, Writers
from domain.formats.coco import write_coco, write_coco_shards
from domain.formats.hugging_face import write_hugging_face
from domain.formats.parquet import write_parquet

WRITERS: Writers = {
    ExportFormat.COCO: write_coco,
    ExportFormat.COCO_SHARDS: write_coco_shards,
    ExportFormat.PARQUET: write_parquet,
    ExportFormat.HUGGING_FACE: write_hugging_face,
}
