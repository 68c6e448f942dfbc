# All of Trivet's commands in one image; docker-compose.yml chooses which one a container runs.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY tools/hatch_build.py tools/generate_protos.py tools/
COPY protos protos
COPY executor_shim executor_shim
COPY pytest_trivet pytest_trivet
COPY services services
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .
# The environment gets no pip of its own: it is only run from.
RUN python -m venv --without-pip /opt/trivet \
 && python -m pip --python /opt/trivet/bin/python install --no-cache-dir "$(echo /wheels/trivet-*.whl)[cli]"

FROM python:3.12-slim-bookworm
# Volumes that Docker makes take owner and mode from these directories.
RUN groupadd --gid 10001 trivet \
 && useradd --uid 10001 --gid trivet --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin trivet \
 && install -d -o trivet -g trivet -m 0755 /run/trivet \
 && install -d -o trivet -g trivet -m 0700 /var/lib/trivet
COPY --from=build /opt/trivet /opt/trivet
ENV PATH=/opt/trivet/bin:$PATH
WORKDIR /trivet
USER trivet
CMD ["trivet", "--help"]
