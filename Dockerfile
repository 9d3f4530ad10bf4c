# A static binary on an empty base. `tests/image` runs the same steps where no container engine is.
FROM rust:1.95-bookworm AS build
WORKDIR /src
# Names and versions of the dependencies stay in the binary: `cargo audit bin hireling` reads them.
RUN cargo install --locked cargo-auditable@0.7.7
COPY . .
ENV RUSTFLAGS="-C target-feature=+crt-static"
RUN cargo auditable build --locked --profile dist --target "$(rustc -vV | sed -n 's/^host: //p')"
RUN mkdir -p out/base/etc/ssl/certs out/own/data out/own/tmp
RUN cp target/*/dist/hireling out/base/hireling
# Engines that look a user up want to find one.
RUN echo 'hireling:x:65532:65532::/data:/hireling' >out/base/etc/passwd && echo 'hireling:x:65532:' >out/base/etc/group
RUN cp /etc/ssl/certs/ca-certificates.crt out/base/etc/ssl/certs/ca-certificates.crt

FROM scratch
COPY --from=build /src/out/base/ /
COPY --from=build --chown=65532:65532 /src/out/own/ /
USER 65532:65532
# So the usual database, `data/hireling.db`, is /data/hireling.db.
WORKDIR /
ENV PORT=8080
ENV METRICS_ADDR=0.0.0.0:9464
ENV LOG_FORMAT=json
# Large buffers go back to the system at once; glibc would keep them, and memory would grow for days.
ENV MALLOC_MMAP_THRESHOLD_=65536
EXPOSE 8080
STOPSIGNAL SIGTERM
# No ENTRYPOINT: what is run in the place of `serve` names the program, wherever it is written.
CMD ["/hireling", "serve"]
