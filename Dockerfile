# One image for the API, the planner and the dispatcher (no torch); one with EXTRAS=worker.
FROM python:3.12-slim AS build
ARG EXTRAS=""
WORKDIR /src
RUN pip install --no-cache-dir uv && uv venv /opt/maskmill
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY maskmill maskmill
COPY api api
COPY workers workers
COPY storage storage
COPY domain domain
COPY migrations migrations
RUN uv pip install --python /opt/maskmill/bin/python --no-cache --constraint requirements.lock ".${EXTRAS:+[$EXTRAS]}"

FROM python:3.12-slim
ARG EXTRAS=""
# torch.compile builds launchers for its CUDA kernels where it runs.
RUN if [ -n "$EXTRAS" ]; then apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; fi
RUN useradd --create-home --uid 10001 maskmill \
    && cd /home/maskmill && install -d -o maskmill -g maskmill .cache .cache/huggingface .cache/maskmill
COPY --from=build /opt/maskmill /opt/maskmill
ENV PATH=/opt/maskmill/bin:$PATH PYTHONUNBUFFERED=1
USER maskmill
WORKDIR /home/maskmill
CMD ["maskmill", "--help"]
