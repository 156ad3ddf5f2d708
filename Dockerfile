# The sidecar: docker build -t tidegate .
# For workers, an image of yours: FROM tidegate, add the code of your handlers, CMD ["work", "app.jobs:registry", "--listen", "0.0.0.0:9187"].
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY pyshim pyshim
COPY sql sql
RUN python -m venv /opt/tidegate \
    && /opt/tidegate/bin/pip install --no-cache-dir -c constraints.txt '.[redis,nats,rabbitmq,kafka,http,otel]'

FROM python:${PYTHON}-slim
COPY --from=build /opt/tidegate /opt/tidegate
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin tidegate
ENV PATH=/opt/tidegate/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 9187
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9187/healthz', timeout=4)"]
ENTRYPOINT ["tidegate"]
CMD ["run", "--config", "/etc/tidegate/tidegate.toml", "--listen", "0.0.0.0:9187"]
