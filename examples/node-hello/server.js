// The smallest app that shows what Slipway gives an app: a port, a host name
// per instance, an environment, and time to finish requests when it is stopped.
const express = require("express");
const os = require("os");

const app = express();
app.get("/", (req, res) => {
  res.type("text").send(`Hello from ${os.hostname()} (release ${process.env.SLIPWAY_RELEASE || "?"})\n`);
});

const server = app.listen(process.env.PORT || 8080, () => {
  console.log(`listening on ${server.address().port}`);
});

process.on("SIGTERM", () => {
  console.log("stopping: finishing open requests");
  server.close(() => process.exit(0));
});
