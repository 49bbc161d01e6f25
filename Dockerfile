# Two stages: the first has compilers and builds, the second holds what serving needs.
# `npm run test:docker` replays these steps in a clean folder and fails when they drift from the project.
FROM node:22-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ cmake ninja-build \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY scripts ./scripts
RUN node scripts/setup.mjs install
COPY CMakeLists.txt tsconfig.json ./
COPY native ./native
COPY src ./src
RUN node scripts/setup.mjs native typescript
RUN node scripts/prune-for-image.mjs

FROM node:22-bookworm-slim
ENV NODE_ENV=production BELFRY_HOST=0.0.0.0 BELFRY_MODELS=/models BELFRY_DATA=/data
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/build/Release/belfry.node ./build/Release/belfry.node
COPY --from=build /app/dist ./dist
COPY embeddings/sample ./embeddings/sample
RUN install -d -o node -g node /models /data
USER node
VOLUME ["/models", "/data"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=2s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:'+(process.env.BELFRY_PORT||process.env.PORT||8080)+'/readyz').then(r=>process.exit(r.ok?0:1),()=>process.exit(1))"]
ENTRYPOINT ["node", "dist/cli/main.js"]
CMD ["serve"]
