"""The gateway: OpenAI's shapes in and out, with a probability on what is answered.

::

    HTTP -> app        routes
         -> keys       who asks                    refusals  every "no", in OpenAI's error shape
         -> wire       bytes -> JSON -> ``Asked``  options   the request's ``poise`` object
         -> admission  room, or 429
         -> aliases    name -> arm, policy, profile, caps
         -> budgets    a lease of what the key may still spend
         -> answering  the loop, with a deadline, cancelled with the client
         -> store      the decision, durable before the reply
         -> replies    ``Answered`` -> a whole completion; chunks: the same as a stream
         -> HTTP

``metrics``, ``tracing`` and ``logs`` look on; ``upstreams`` keeps failing servers out of the way.
It imports neither ``grading`` nor ``tasks``: no label is in reach of a reply.
"""
