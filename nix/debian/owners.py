"""A server for the clients of fakeroot-tcp: remembers the owner and the mode that every file would have.

usage: owners.py OUT   (prints its port; on SIGTERM it writes OUT, {"DEVICE:INODE": [uid, gid, mode]}, and ends)

fakeroot's own server (faked-tcp 1.37) takes whatever one read() returns as a whole message. A client that sends faster
than it reads fills the socket, a message arrives in two parts, and from then on owners are lost or a client waits for
ever. Changes are not acknowledged either, so a process can see the state before a change of one that has ended. Here a
message counts when it is complete, and every change that has arrived counts before a question is answered.

The messages are those of fakeroot's communicate.c and message.h, in network byte order.
"""
import json, select, signal, socket, stat, struct, sys

CHOWN, CHMOD, MKNOD, STAT, UNLINK, _, _, LISTXATTR, GETXATTR, SETXATTR, REMOVEXATTR = range(11)
HEAD = struct.Struct("!IIIQQQII")  # function, uid, gid, inode, device, rdev, mode, links
SIZE = HEAD.size + 4 + 1024 + 4 + 4  # then an extended attribute (size, text, result) and `remote`
RESULT = struct.Struct("!i")
RESULT_AT = HEAD.size + 4 + 1024
KEEP = 0xFFFFFFFF
SPECIAL = stat.S_ISUID | stat.S_ISGID
ENODATA, EOPNOTSUPP = 61, 95
files = {}


def another_file(mode, real):
    """Whether a remembered mode is that of an earlier file with the same inode, whose end nobody told."""
    if stat.S_IFMT(mode) != stat.S_IFMT(real):
        # A device that fakeroot made is a regular file.
        return not (stat.S_ISREG(real) and (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)))
    # Nix refuses to set special modes, and then the real one stays as it was.
    return not mode & SPECIAL and not stat.S_ISLNK(real) and bool((mode ^ real) & 0o077)


def known(device, inode, real):
    """What is remembered of a file."""
    entry = files.get((device, inode))
    if entry is not None and another_file(entry[2], real):
        del files[device, inode]
        return None
    return entry


def change(function, uid, gid, inode, device, rdev, mode, links):
    key = (device, inode)
    if function == CHOWN:
        entry = known(device, inode, mode)
        if entry is None:
            files[key] = [0 if uid == KEEP else uid, 0 if gid == KEEP else gid, mode, 0]
        else:
            entry[0] = entry[0] if uid == KEEP else uid
            entry[1] = entry[1] if gid == KEEP else gid
    elif function in (CHMOD, MKNOD):
        entry = files.get(key)
        same = entry is not None and (function == MKNOD or stat.S_IFMT(entry[2]) == stat.S_IFMT(mode))
        owner = entry[:2] if same else [0, 0]
        files[key] = [*owner, mode, rdev if function == MKNOD else 0]
    elif function == UNLINK:
        if links == 1 or (stat.S_ISDIR(mode) and links == 2):
            files.pop(key, None)


def answer(message):
    function, uid, gid, inode, device, rdev, mode, links = HEAD.unpack_from(message)
    reply = bytearray(message)
    if function == STAT:
        entry = known(device, inode, mode)
        uid, gid, mode, rdev = (entry[0], entry[1], entry[2], entry[3] or rdev) if entry else (0, 0, mode, rdev)
        HEAD.pack_into(reply, 0, function, uid, gid, inode, device, rdev, mode, links)
    else:
        # No extended attribute: file capabilities and access lists are not part of an image.
        struct.pack_into("!I", reply, HEAD.size, 0)
        RESULT.pack_into(reply, RESULT_AT, {LISTXATTR: 0, GETXATTR: ENODATA}.get(function, EOPNOTSUPP))
    return reply


def serve(listener):
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    clients, parts, questions = {}, {}, []

    def accept():
        while True:
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                return
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            clients[client.fileno()], parts[client.fileno()] = client, b""
            poll.register(client, select.EPOLLIN)

    def receive(number):
        try:
            data = clients[number].recv(1 << 18)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            poll.unregister(number)
            clients.pop(number).close()
            del parts[number]
            return
        data = parts[number] + data if parts[number] else data
        whole = len(data) // SIZE * SIZE
        for at in range(0, whole, SIZE):
            function = data[at + 3]
            if function in (CHOWN, CHMOD, MKNOD, UNLINK):
                change(*HEAD.unpack_from(data, at))
            else:
                questions.append((number, data[at:at + SIZE]))
        parts[number] = data[whole:]

    while True:
        events = poll.poll(0 if questions else None)
        if not events:
            for number, message in questions:
                if number in clients:
                    clients[number].setblocking(True)
                    try:
                        clients[number].sendall(answer(message))
                    except (BrokenPipeError, ConnectionResetError):
                        pass  # the process was killed
                    clients[number].setblocking(False)
            questions.clear()
        for number, _ in events:
            accept() if number == listener.fileno() else receive(number)


def main():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)

    def end(*_):
        with open(sys.argv[1], "w") as f:
            json.dump({f"{device}:{inode}": entry[:3] for (device, inode), entry in files.items()}, f)
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    serve(listener)


if __name__ == "__main__":
    main()
