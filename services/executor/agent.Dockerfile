# The image agents run in; `make agent-image` builds it, see agent/image.sh.
# BASE is any Debian, or something made of it: with PACKAGES in it no network is needed.
ARG BASE=debian:bookworm-slim
FROM ${BASE}

ARG PACKAGES="ca-certificates git procps ripgrep tini"
# An agent has no home that lasts, so what git wants to know of its user is the machine's.
# What leads from the agent's user to its program can be run, and not read: the kernel keeps the
# memory and the open files of such a process from others of the same user, which are whatever
# the agent has started. They could answer in its user's name, and speak in its own.
RUN set -eu; \
    if ! command -v git rg ps tini >/dev/null; then \
      apt-get update -qq; \
      apt-get install -qq -y --no-install-recommends ${PACKAGES}; \
      rm -rf /var/lib/apt/lists/*; \
    fi; \
    echo 'agent:x:10001:10001:Agent:/home/agent:/bin/bash' >>/etc/passwd; \
    echo 'agent:x:10001:' >>/etc/group; \
    mkdir -p /home/agent /workspace /state /run/moorline; \
    cp /usr/bin/perl /usr/local/bin/moorline-relay; \
    chmod 0711 /usr/local/bin/moorline-relay "$(command -v tini)"; \
    git config --system user.name Agent; \
    git config --system user.email agent@localhost; \
    git config --system safe.directory '*'; \
    git config --system init.defaultBranch main

# The pinned CLI, and our two programs around it; one layer, because some drivers copy each whole.
COPY bin/ /usr/local/bin/

ARG CLI_VERSION
LABEL moorline.cli.version=${CLI_VERSION}
USER 10001:10001
# tini reaps what the agent's commands leave behind; the CLI does not.
ENTRYPOINT ["tini", "--", "moorline-agent"]
CMD ["claude"]
