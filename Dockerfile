# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The command that the checks run, too. The caches keep dependencies between builds and are no part of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked && cp target/release/birdwire /usr/local/bin/birdwire

FROM debian:bookworm-slim
# Certificates, because the system's are the ones that deliveries trust.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin birdwire \
    && install -d -o birdwire -g birdwire /data /etc/birdwire
COPY --from=build /usr/local/bin/birdwire /usr/local/bin/birdwire

# Only what a container changes; everything else is in /etc/birdwire/birdwire.toml or in further BIRDWIRE_ variables.
ENV BIRDWIRE_SERVER__LISTEN=0.0.0.0:8080 \
    BIRDWIRE_STORE__URL=sqlite:/data/birdwire.db
WORKDIR /etc/birdwire
VOLUME /data
EXPOSE 8080
USER birdwire
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["birdwire", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["birdwire"]
CMD ["serve"]
