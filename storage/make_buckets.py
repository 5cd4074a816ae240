"""`python -m storage.make_buckets NAME...`: makes the buckets of a fresh S3 server."""

import sys

from botocore.exceptions import ClientError

from storage.s3_store import s3_client
from storage.settings import load_settings


def main() -> None:
    client = s3_client(load_settings().s3_endpoint_url)
    for name in sys.argv[1:]:
        try:
            client.create_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {
                "BucketAlreadyOwnedByYou",
                "BucketAlreadyExists",
            }:
                raise


if __name__ == "__main__":
    main()
