# The server, and an Orthanc to try it on. `docker compose up` starts both: see compose.yaml.
FROM debian:bookworm-slim AS orthanc
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        orthanc=1.10.1+dfsg-2+deb12u1 \
        orthanc-dicomweb=1.7+dfsg-6+b2 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 pacs \
    && mkdir /images \
    && chown pacs:pacs /images
COPY deploy/orthanc.json /etc/vs_clickseg/orthanc.json
USER 1000
VOLUME /images
EXPOSE 8042
CMD ["/usr/sbin/Orthanc", "/etc/vs_clickseg/orthanc.json"]

FROM python:3.11-slim-bookworm AS server
RUN useradd --create-home --uid 1000 reader \
    && mkdir /studies \
    && chown reader:reader /studies
WORKDIR /srv/vs_clickseg
COPY requirements.lock requirements-server.lock ./
RUN pip install --no-cache-dir --requirement requirements.lock \
    && pip install --no-cache-dir --no-deps --requirement requirements-server.lock
COPY LICENSE pyproject.toml ./
COPY lib lib
RUN pip install --no-cache-dir --no-deps --no-build-isolation .
# MONAI Label writes its log beside the app, and models that were trained go there, too.
COPY --chown=reader:reader apps apps
RUN chown reader:reader apps/vs_clickseg
USER 1000
ENV MONAI_LABEL_TRACKING_ENABLED=false \
    MONAI_LABEL_DICOMWEB_CACHE_PATH=/studies \
    PYTHONPATH=/srv/vs_clickseg/apps/vs_clickseg
VOLUME ["/studies", "/srv/vs_clickseg/apps/vs_clickseg/model"]
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/info/', timeout=20)"]
ENTRYPOINT ["python", "-m", "monailabel.main", "start_server", "--app", "apps/vs_clickseg", "--host", "0.0.0.0", "--port", "8000"]
CMD ["--studies", "http://orthanc:8042/dicom-web"]
