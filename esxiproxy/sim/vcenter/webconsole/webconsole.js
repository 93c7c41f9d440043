// The console of a simulated vCenter: RFB that begins with ServerInit, in raw pictures of 32 bits a pixel.

const screen_ = document.getElementById("screen");
const context = screen_.getContext("2d");
const socket = new WebSocket(`wss://${location.host}/ui/webconsole/authd?${screen_.dataset.query}`, ["binary"]);
socket.binaryType = "arraybuffer";

/** Bytes that have arrived and belong to no complete message yet. */
let received = new Uint8Array();
let take = takeServerInit;

function takeServerInit(view) {
  if (received.length < 24 || received.length < 24 + view.getUint32(20)) return 0;
  const end = 24 + view.getUint32(20);
  screen_.width = view.getUint16(0);
  screen_.height = view.getUint16(2);
  document.title = new TextDecoder().decode(received.slice(24, end));
  take = takeUpdate;
  request(0);
  return end;
}

/** Paint a FramebufferUpdate, whose rectangles are all raw. */
function takeUpdate(view) {
  if (received.length < 4) return 0;
  if (view.getUint8(0) !== 0) throw new Error(`message ${view.getUint8(0)} is unknown`);
  const rectangles = [];
  let end = 4;
  for (let count = view.getUint16(2); count > 0; count -= 1) {
    if (received.length < end + 12) return 0;
    const [left, top, width, height] = [0, 2, 4, 6].map((place) => view.getUint16(end + place));
    rectangles.push({ left, top, width, height, at: end + 12 });
    end += 12 + 4 * width * height;
  }
  if (received.length < end) return 0;
  for (const { left, top, width, height, at } of rectangles) {
    const picture = new ImageData(width, height);
    for (let place = 0; place < picture.data.length; place += 4) {
      const [blue, green, red] = received.subarray(at + place, at + place + 3);
      picture.data.set([red, green, blue, 255], place);
    }
    context.putImageData(picture, left, top);
  }
  request(1);
  return end;
}

function request(incremental) {
  const message = new DataView(new ArrayBuffer(10));
  message.setUint8(0, 3);
  message.setUint8(1, incremental);
  message.setUint16(6, screen_.width);
  message.setUint16(8, screen_.height);
  socket.send(message.buffer);
}

socket.addEventListener("message", ({ data }) => {
  const all = new Uint8Array(received.length + data.byteLength);
  all.set(received);
  all.set(new Uint8Array(data), received.length);
  received = all;
  for (let end = -1; end !== 0; received = received.slice(end)) end = take(new DataView(received.buffer));
});
socket.addEventListener("close", ({ code, reason }) => (document.title = `closed: ${code} ${reason}`));

for (const [name, isDown] of [["keydown", 1], ["keyup", 0]]) {
  screen_.addEventListener(name, (event) => {
    if (event.key.length !== 1) return;
    event.preventDefault();
    const message = new DataView(new ArrayBuffer(8));
    message.setUint8(0, 4);
    message.setUint8(1, isDown);
    message.setUint32(4, event.key.codePointAt(0));
    socket.send(message.buffer);
  });
}
