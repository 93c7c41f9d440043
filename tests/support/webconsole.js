const canvas = document.querySelector('canvas')
const target = `wss://${location.host}/ui/webconsole/authd?${canvas.dataset.query}`
const socket = new WebSocket(target, ['binary', 'vmware-vvc'])
socket.binaryType = 'arraybuffer'

// Bytes that have arrived and belong to no complete message yet.
let waiting = new Uint8Array()

// The first message is the ServerInit of RFB: there is neither a version nor a security type before it.
const takeServerInit = view => {
    if (waiting.length < 24 || waiting.length < 24 + view.getUint32(20)) return 0
    const end = 24 + view.getUint32(20)
    canvas.width = view.getUint16(0)
    canvas.height = view.getUint16(2)
    const name = new TextDecoder().decode(waiting.slice(24, end))
    document.title = `${canvas.width}x${canvas.height} ${name} by ${socket.protocol}`
    take = takeUpdate
    request()
    return end
}

// A FramebufferUpdate with one raw rectangle, the whole picture.
const takeUpdate = view => {
    const end = 16 + 4 * canvas.width * canvas.height
    if (waiting.length < end) return 0
    const head = [0, 0, 0, 1, 0, 0, 0, 0, 0, canvas.width, 0, canvas.height, 0, 0, 0, 0]
    if (head.some((byte, place) => byte !== waiting[place])) throw new Error('no raw picture')
    const picture = new ImageData(canvas.width, canvas.height)
    for (let place = 0; place < picture.data.length; place += 4) {
        const [blue, green, red] = waiting.slice(16 + place, 19 + place)
        picture.data.set([red, green, blue, 255], place)
    }
    canvas.getContext('2d').putImageData(picture, 0, 0)
    return end
}

let take = takeServerInit

const request = () => {
    const message = new DataView(new ArrayBuffer(10))
    message.setUint8(0, 3)
    message.setUint16(6, canvas.width)
    message.setUint16(8, canvas.height)
    // A message of RFB may stand in two of the WebSocket.
    socket.send(message.buffer.slice(0, 3))
    socket.send(message.buffer.slice(3))
}

socket.onmessage = event => {
    const all = new Uint8Array(waiting.length + event.data.byteLength)
    all.set(waiting)
    all.set(new Uint8Array(event.data), waiting.length)
    waiting = all
    for (let end = -1; end !== 0;) {
        end = take(new DataView(waiting.buffer))
        waiting = waiting.slice(end)
    }
}
socket.onclose = event => { document.title = `closed ${event.code}` }

canvas.onkeydown = event => {
    const key = event.key.charCodeAt(0)
    socket.send(Uint8Array.of(4, 1, 0, 0, 0, 0, 0, key, 4, 0, 0, 0, 0, 0, 0, key))
    request()
}
