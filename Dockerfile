# One image with all programs of Fides. Which one runs is the entrypoint's choice: fides-importer,
# fides-publishing-consumer, fides-cleanup-scheduler, fides-event-handler, or fides (the operator's commands).
# --target cosmos makes another image, of an emulator to try Fides with.
#
#   docker build -t fides:local .
#   docker buildx build --platform linux/amd64,linux/arm64 -t registry.example/fides:0.1.0 .
#   docker build --target prebuilt -f Dockerfile -t fides:local DIRECTORY      binaries that were built before
#
# No `# syntax=` line: what the engine itself understands is enough, and nothing is fetched for it.
ARG RUST_TAG=1.95.0-bookworm
ARG DEBIAN_TAG=12.12-slim

# What the programs stand on: glibc, and the authorities of the system for TLS. Time zones are compiled in. The services need
# no shell; compose's health check uses the one of Debian.
FROM debian:${DEBIAN_TAG} AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* /var/log/*
# Numbers, so that Kubernetes can see that it is not root. Nothing here is its own, so there is nothing that it may write.
USER 10001:10001
ENV FIDES_CONFIG=/etc/fides/fides.yaml
EXPOSE 8080
# SIGTERM is the default; said, because draining depends on it.
STOPSIGNAL SIGTERM
ENTRYPOINT ["fides"]

# From binaries that were built before; the context is their directory.
FROM base AS prebuilt
COPY fides fides-importer fides-publishing-consumer fides-cleanup-scheduler fides-event-handler /usr/local/bin/

# Compiles on the machine's own processor for whichever is asked for: no emulation.
FROM --platform=$BUILDPLATFORM rust:${RUST_TAG} AS source
ARG BUILDPLATFORM
ARG TARGETPLATFORM
# The linker and the C library of the other processor, when it is another one. cmake is for aws-lc.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends cmake \
    && case "$BUILDPLATFORM:$TARGETPLATFORM" in \
        linux/amd64:linux/arm64) \
            apt-get install --yes --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross \
            && rustup target add aarch64-unknown-linux-gnu ;; \
        linux/arm64:linux/amd64) \
            apt-get install --yes --no-install-recommends gcc-x86-64-linux-gnu libc6-dev-amd64-cross \
            && rustup target add x86_64-unknown-linux-gnu ;; \
    esac \
    && rm -rf /var/lib/apt/lists/*
ENV CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc
WORKDIR /src
COPY . .
RUN case "$TARGETPLATFORM" in \
        linux/amd64) echo x86_64-unknown-linux-gnu ;; \
        linux/arm64) echo aarch64-unknown-linux-gnu ;; \
        *) echo "there is no build for $TARGETPLATFORM: linux/amd64 and linux/arm64" >&2; exit 64 ;; \
    esac >/triple

# What was compiled stays in caches of the builder, one per platform; only the programs leave this step.
FROM source AS build
ARG TARGETPLATFORM
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=target-$TARGETPLATFORM,target=/src/target,sharing=locked \
    triple=$(cat /triple) \
    && cargo build --locked --profile dist --workspace --bins --features mysql,cosmos --target "$triple" \
    && mkdir /out \
    && cd "target/$triple/dist" \
    && cp fides fides-importer fides-publishing-consumer fides-cleanup-scheduler fides-event-handler /out/

# For the profile cosmos of docker-compose.yml: Microsoft's in-memory emulator of Cosmos DB, in an image of its own.
FROM source AS build-cosmos
ARG TARGETPLATFORM
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=cosmos-$TARGETPLATFORM,target=/src/target,sharing=locked \
    triple=$(cat /triple) \
    && cargo build --locked --release --manifest-path tests/parts/cosmos-server/Cargo.toml --target-dir target --target "$triple" \
    && mkdir /out \
    && cp "target/$triple/release/fides-cosmos-server" /out/

FROM base AS cosmos
COPY --from=build-cosmos /out/ /usr/local/bin/
ENTRYPOINT ["fides-cosmos-server"]

FROM base AS prebuilt-cosmos
COPY fides-cosmos-server /usr/local/bin/
ENTRYPOINT ["fides-cosmos-server"]

FROM base
COPY --from=build /out/ /usr/local/bin/
