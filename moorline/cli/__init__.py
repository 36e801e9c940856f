"""The `moorline` command. Nothing here is imported by `import moorline`."""
